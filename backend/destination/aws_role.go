package destination

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
)

// sessionLife is how long an assumed role lasts, the shortest that AWS gives.
const sessionLife = 15 * time.Minute

// errNoCredentials says that an answer of success was none.
var errNoCredentials = errors.New("sts:AssumeRole was answered without credentials")

// assume exchanges credentials for those of the role. The SDK's own way of it ends
// the process when an answer has none.
func (a *AWSSecretsManager) assume(found aws.Config) aws.CredentialsProvider {
	client := sts.NewFromConfig(found, func(o *sts.Options) { o.BaseEndpoint = endpoint(a.STSEndpoint) })
	asked := &sts.AssumeRoleInput{
		RoleArn: &a.RoleARN, RoleSessionName: aws.String("smvm"), DurationSeconds: aws.Int32(int32(sessionLife / time.Second)),
	}
	if a.ExternalID != "" {
		asked.ExternalId = &a.ExternalID
	}
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		answered, err := client.AssumeRole(ctx, asked)
		switch {
		case err != nil:
			return aws.Credentials{}, err
		case answered.Credentials == nil || aws.ToString(answered.Credentials.AccessKeyId) == "":
			return aws.Credentials{}, errNoCredentials
		}
		return aws.Credentials{
			AccessKeyID:     *answered.Credentials.AccessKeyId,
			SecretAccessKey: aws.ToString(answered.Credentials.SecretAccessKey),
			SessionToken:    aws.ToString(answered.Credentials.SessionToken),
			CanExpire:       true, Expires: aws.ToTime(answered.Credentials.Expiration),
		}, nil
	})
}

// endpoint is an override, nil for AWS's own.
func endpoint(address string) *string {
	if address == "" {
		return nil
	}
	return &address
}

// explainLogin is the error for credentials that there are none of.
func (a *AWSSecretsManager) explainLogin(err error) error {
	var answered smithy.APIError
	switch {
	case errors.Is(err, errNoCredentials):
		return errNoCredentials
	case errors.As(err, &answered):
		return explainAWS(err, "sts:AssumeRole on "+a.RoleARN)
	case a.RoleARN == "":
		return errors.New("the machine that Vault runs on has no credentials for AWS: give access_key_id and secret_access_key, or a role to the machine")
	}
	return ruled(outbound.Reason(err))
}
