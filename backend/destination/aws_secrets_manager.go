package destination

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// AWSSecretsManager publishes to AWS Secrets Manager: each value is a secret of its
// own, marked by a tag. The id of a version is made from the copy, so that asking
// for it twice makes one, and tells which of two is newer. The label AWSCURRENT is
// moved from the version that was seen to have it, so that of two who publish at
// the same time one finds out; AWS then gives that version AWSPREVIOUS.
type AWSSecretsManager struct {
	Region string `json:"region"`
	// Endpoint and STSEndpoint replace AWS's own, such as those of a VPC.
	Endpoint    string `json:"endpoint,omitempty"`
	STSEndpoint string `json:"sts_endpoint,omitempty"`
	TLSCA       string `json:"tls_ca,omitempty"`
	// AccessKeyID and SecretAccessKey log in; without them, whatever the machine
	// that Vault runs on has, as AWS's own tools find it.
	AccessKeyID     string `json:"access_key_id,omitempty"`
	SecretAccessKey string `json:"secret_access_key,omitempty"`
	// RoleARN is what the login then assumes, for a quarter of an hour each time.
	RoleARN    string `json:"role_arn,omitempty"`
	ExternalID string `json:"external_id,omitempty"`
}

// Fields implements Target.
func (a *AWSSecretsManager) Fields() map[string]*string {
	return map[string]*string{
		"region": &a.Region, "endpoint": &a.Endpoint, "sts_endpoint": &a.STSEndpoint, "access_key_id": &a.AccessKeyID,
		"secret_access_key": &a.SecretAccessKey, "role_arn": &a.RoleARN, "external_id": &a.ExternalID, "tls_ca": &a.TLSCA,
	}
}

var (
	// regionForm is a label of DNS, which a region becomes in addresses. Which regions
	// there are, and in which partition, is for the SDK to know.
	regionForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	roleForm   = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+$`)
)

// Validate implements Target.
func (a *AWSSecretsManager) Validate() error {
	switch {
	case !regionForm.MatchString(a.Region):
		return rotation.Invalid("region", "%q is no name of a region; give one like eu-central-1", a.Region)
	case (a.AccessKeyID == "") != (a.SecretAccessKey == ""):
		return rotation.Invalid("access_key_id, secret_access_key", "go together; give both, or neither to use what the machine that Vault runs on has")
	case a.RoleARN != "" && !roleForm.MatchString(a.RoleARN):
		return rotation.Invalid("role_arn", "%q is no role; give one like arn:aws:iam::123456789012:role/smvm", a.RoleARN)
	case a.ExternalID != "" && a.RoleARN == "":
		return rotation.Invalid("external_id", "goes with role_arn")
	}
	addresses := a.Addresses()
	if a.STSEndpoint != "" {
		addresses["sts_endpoint"] = a.STSEndpoint // also where no role is assumed yet
	}
	return checkWay(a.TLSCA, addresses)
}

// Where implements Target.
func (a *AWSSecretsManager) Where() string { return "AWS Secrets Manager of " + a.Region }

// Preflight implements Target. What may be written is not known before it is.
func (a *AWSSecretsManager) Preflight(ctx context.Context, rule outbound.Rule, c Copy) error {
	s, err := a.open(ctx, rule)
	if err != nil {
		return err
	}
	defer s.close()
	var problems error
	for _, item := range c.Items {
		e, err := s.describe(ctx, item.Name)
		if err = errors.Join(err, e.obstacle(c, item.Name)); err != nil {
			problems = errors.Join(problems, fmt.Errorf("%s: %w", item.Name, err))
		}
	}
	return problems
}

// Untried implements Target. Secrets Manager has no call that tries a right to write
// and writes nothing, and IAM's simulation takes a right of its own.
func (a *AWSSecretsManager) Untried() string {
	return "the rights to write (secretsmanager:CreateSecret, TagResource, PutSecretValue and UpdateSecretVersionStage): AWS can't be asked without writing, so compare its policy with bootstrap/operate/destinations/aws-secrets-manager.json"
}

// Publish implements Target.
func (a *AWSSecretsManager) Publish(ctx context.Context, rule outbound.Rule, c Copy) error {
	s, err := a.open(ctx, rule)
	if err != nil {
		return err
	}
	defer s.close()
	for _, item := range c.Items {
		if err := s.publish(ctx, c, item); err != nil {
			return fmt.Errorf("%s: %w", item.Name, err)
		}
	}
	return nil
}

// Compare implements Target.
func (a *AWSSecretsManager) Compare(ctx context.Context, rule outbound.Rule, c Copy) (differences []string, err error) {
	s, err := a.open(ctx, rule)
	if err != nil {
		return nil, err
	}
	defer s.close()
	for _, item := range c.Items {
		difference, err := s.difference(ctx, c, item)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", item.Name, err)
		}
		if difference != "" {
			differences = append(differences, item.Name+" "+difference)
		}
	}
	return differences, nil
}
