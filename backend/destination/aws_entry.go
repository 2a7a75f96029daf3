package destination

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
)

// The labels of versions that are AWS's own.
const (
	awsCurrent = "AWSCURRENT"
	awsPending = "AWSPENDING"
)

// awsEntry is what Secrets Manager has under one name.
type awsEntry struct {
	exists, deleted bool
	owner           string
	// current is the id of the version that has AWSCURRENT.
	current string
}

// obstacle says why a copy may not be published there.
func (e awsEntry) obstacle(c Copy, name string) error {
	switch {
	case e.deleted:
		return refused("is scheduled for deletion; run: aws secretsmanager restore-secret --secret-id %s", name)
	case e.exists && e.owner != c.Owner && !c.Adopt:
		return foreign()
	case e.owner == c.Owner && c.Stamp.Version > 0 && c.Stamp.older(versionStamp(e.current)):
		return superseded(versionStamp(e.current))
	}
	return nil
}

// versionID is the ClientRequestToken of an item, and so the id of its version.
func versionID(c Copy, item Item) string {
	return "smvm-" + c.Stamp.String() + "-" + item.ID
}

// versionStamp reads the stamp in what versionID makes.
func versionStamp(id string) Stamp {
	parts := strings.Split(id, "-")
	if len(parts) != 4 || parts[0] != "smvm" {
		return Stamp{}
	}
	return parseStamp(parts[1] + "-" + parts[2])
}

// describe finds out what there is under a name.
func (s *awsSession) describe(ctx context.Context, name string) (awsEntry, error) {
	found, err := s.client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &name})
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		return awsEntry{}, nil
	}
	if err != nil {
		return awsEntry{}, explainAWS(err, "secretsmanager:DescribeSecret")
	}
	e := awsEntry{exists: true, deleted: found.DeletedDate != nil}
	for _, tag := range found.Tags {
		if aws.ToString(tag.Key) == ownerKey {
			e.owner = aws.ToString(tag.Value)
		}
	}
	for id, stages := range found.VersionIdsToStages {
		if slices.Contains(stages, awsCurrent) {
			e.current = id
		}
	}
	return e, nil
}

// publish makes Secrets Manager hold one item. A value that is there already gets
// no other version.
func (s *awsSession) publish(ctx context.Context, c Copy, item Item) error {
	err := errContended
	for attempt := 0; attempt < publishAttempts && errors.Is(err, errContended); attempt++ {
		e, readErr := s.describe(ctx, item.Name)
		if err := errors.Join(readErr, e.obstacle(c, item.Name)); err != nil {
			return err
		}
		if e.owner == c.Owner && e.current != "" {
			if err := s.check(ctx, item); !errors.Is(err, errLying) {
				return err
			}
		}
		if !e.exists {
			err = s.create(ctx, c, item)
		} else {
			err = s.replace(ctx, c, item, e)
		}
	}
	if err != nil {
		return err
	}
	return s.check(ctx, item)
}

func (s *awsSession) create(ctx context.Context, c Copy, item Item) error {
	_, err := s.client.CreateSecret(ctx, &secretsmanager.CreateSecretInput{
		Name: &item.Name, SecretString: &item.Value, ClientRequestToken: aws.String(versionID(c, item)), Tags: ownerTag(c),
		Description: aws.String("Published by smvm for role " + c.Role + "; changes by hand are overwritten"),
	})
	return explainAWS(err, "secretsmanager:CreateSecret")
}

func ownerTag(c Copy) []types.Tag {
	return []types.Tag{{Key: aws.String(ownerKey), Value: &c.Owner}}
}

// replace adds a version and then moves AWSCURRENT to it, from the one that was
// seen to have it and from no other.
func (s *awsSession) replace(ctx context.Context, c Copy, item Item, e awsEntry) error {
	if e.owner != c.Owner {
		_, err := s.client.TagResource(ctx, &secretsmanager.TagResourceInput{SecretId: &item.Name, Tags: ownerTag(c)})
		if err != nil {
			return explainAWS(err, "secretsmanager:TagResource")
		}
	}
	_, err := s.client.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
		SecretId: &item.Name, SecretString: &item.Value, ClientRequestToken: aws.String(versionID(c, item)), VersionStages: []string{awsPending},
	})
	if err != nil {
		return explainAWS(err, "secretsmanager:PutSecretValue")
	}
	move := &secretsmanager.UpdateSecretVersionStageInput{
		SecretId: &item.Name, VersionStage: aws.String(awsCurrent), MoveToVersionId: aws.String(versionID(c, item)),
	}
	if e.current != "" {
		move.RemoveFromVersionId = &e.current
	}
	_, err = s.client.UpdateSecretVersionStage(ctx, move)
	var moved *types.InvalidParameterException
	if errors.As(err, &moved) {
		return errContended
	}
	return explainAWS(err, "secretsmanager:UpdateSecretVersionStage")
}

// check reads an item back.
func (s *awsSession) check(ctx context.Context, item Item) error {
	found, err := s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &item.Name, VersionStage: aws.String(awsCurrent)})
	if err != nil {
		return explainAWS(err, "secretsmanager:GetSecretValue")
	}
	if aws.ToString(found.SecretString) != item.Value {
		return errLying
	}
	return nil
}

// difference says how an item differs from what there is.
func (s *awsSession) difference(ctx context.Context, c Copy, item Item) (string, error) {
	e, err := s.describe(ctx, item.Name)
	switch {
	case err != nil:
		return "", err
	case !e.exists || e.current == "":
		return "is missing", nil
	case e.deleted:
		return "is scheduled for deletion", nil
	case e.owner != c.Owner:
		return "is not this engine's", nil
	}
	if err = s.check(ctx, item); errors.Is(err, errLying) {
		return "has another value", nil
	}
	return "", err
}
