package destination

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
)

// awsSession is a use of Secrets Manager, with credentials that were found, and if
// there is a role assumed, for this use.
type awsSession struct {
	client *secretsmanager.Client
	http   *http.Client
}

// open finds the credentials. Attempts are repeated by whoever publishes, and not
// by the SDK.
func (a *AWSSecretsManager) open(ctx context.Context, rule outbound.Rule) (*awsSession, error) {
	client, err := rule.Client(a.TLSCA, true)
	if err != nil {
		return nil, err
	}
	used := aws.Config{Region: a.Region, HTTPClient: client, Retryer: func() aws.Retryer { return aws.NopRetryer{} }}
	if used.Credentials, err = a.credentials(ctx); err != nil {
		return nil, err
	}
	if a.RoleARN != "" {
		used.Credentials = aws.NewCredentialsCache(a.assume(used))
	}
	if _, err := used.Credentials.Retrieve(ctx); err != nil {
		client.CloseIdleConnections()
		return nil, a.explainLogin(err)
	}
	return &awsSession{http: client, client: secretsmanager.NewFromConfig(used, func(o *secretsmanager.Options) {
		o.BaseEndpoint = endpoint(a.Endpoint)
	})}, nil
}

// credentials are those that were given, or what the machine has.
func (a *AWSSecretsManager) credentials(ctx context.Context) (aws.CredentialsProvider, error) {
	if a.AccessKeyID != "" {
		return credentials.NewStaticCredentialsProvider(a.AccessKeyID, a.SecretAccessKey, ""), nil
	}
	found, err := config.LoadDefaultConfig(ctx, config.WithRegion(a.Region))
	if err != nil {
		return nil, errors.New("the configuration for AWS of the machine that Vault runs on cannot be read")
	}
	return found.Credentials, nil
}

func (s *awsSession) close() { s.http.CloseIdleConnections() }

// Addresses implements Target. Where no endpoint is given it is AWS's own, and the
// setting that leads there is named.
func (a *AWSSecretsManager) Addresses() map[string]string {
	addresses, ctx := map[string]string{}, context.Background()
	switch own, err := secretsmanager.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx,
		secretsmanager.EndpointParameters{Region: &a.Region}.WithDefaults()); {
	case a.Endpoint != "":
		addresses["endpoint"] = a.Endpoint
	case err == nil:
		addresses["region"] = own.URI.String()
	}
	if a.RoleARN == "" {
		return addresses
	}
	switch own, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx,
		sts.EndpointParameters{Region: &a.Region}.WithDefaults()); {
	case a.STSEndpoint != "":
		addresses["sts_endpoint"] = a.STSEndpoint
	case err == nil:
		addresses["role_arn"] = own.URI.String()
	}
	return addresses
}

// explainAWS is the error for a call of AWS, nil if there is none: what it means
// here, and whether trying again may help. What AWS says about it may quote the
// request, so only the name of the error is repeated.
func explainAWS(err error, action string) error {
	var answered smithy.APIError
	if err == nil {
		return nil
	}
	if !errors.As(err, &answered) {
		return ruled(outbound.Reason(err))
	}
	switch code := answered.ErrorCode(); code {
	case "AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "InvalidClientTokenId",
		"SignatureDoesNotMatch", "InvalidSignatureException", "ExpiredTokenException", "ExpiredToken":
		return refused("AWS denies %s (%s): permission denied; check the credentials, and give them bootstrap/operate/destinations/aws-secrets-manager.json", action, code)
	case "ResourceExistsException":
		return errContended
	case "LimitExceededException":
		return fmt.Errorf("AWS has no room (%s): a quota is used up; raise it, or delete secrets that are not needed", code)
	case "InvalidParameterException", "InvalidRequestException", "ValidationException":
		return refused("AWS refuses %s (%s)", action, code)
	case "DecryptionFailure", "EncryptionFailure":
		return fmt.Errorf("AWS cannot use the KMS key (%s)", code)
	default:
		if !strings.HasSuffix(code, "Exception") && !strings.HasSuffix(code, "Failure") {
			code = "an error of another name"
		}
		return fmt.Errorf("AWS answered %s with %s", action, code)
	}
}
