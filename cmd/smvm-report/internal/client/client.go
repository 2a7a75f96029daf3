// Package client reads from Vault what the report shows, as any client does.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/cmd/smvm-report/internal/model"
)

// vault reads below one mount.
type vault struct {
	client *api.Client
	mount  string
}

// Read reads all that the report shows, from Vault as the environment says.
func Read(ctx context.Context, mount string, since time.Time) (*model.Engine, error) {
	client, err := api.NewClient(nil)
	if err != nil {
		return nil, fmt.Errorf("prepare to talk to Vault: %w", err)
	}
	v := &vault{client: client, mount: strings.Trim(mount, "/")}
	e := &model.Engine{Mount: v.mount, Since: since}
	var config struct {
		Environment string `json:"environment"`
	}
	if err := v.read(ctx, "config", &config); err != nil {
		return nil, err
	}
	e.Environment = config.Environment
	changes := &model.Subject{Kind: "configuration"}
	if err := v.history(ctx, "config/history", changes, since); err != nil {
		return nil, err
	}
	if changes.Entries > 0 {
		e.Subjects = append(e.Subjects, changes)
	}
	for _, kind := range []string{"role", "connection"} {
		names, err := v.list(ctx, kind+"s")
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			s, err := v.subject(ctx, kind, name, since)
			if err != nil {
				return nil, err
			}
			e.Subjects = append(e.Subjects, s)
		}
	}
	return e, v.deleted(ctx, e)
}

// deleted adds the histories of roles that are there no more.
func (v *vault) deleted(ctx context.Context, e *model.Engine) error {
	names, err := v.list(ctx, "history")
	for _, name := range names {
		known := func(s *model.Subject) bool { return s.Kind == "role" && s.Name == name }
		if err == nil && !slices.ContainsFunc(e.Subjects, known) {
			s := &model.Subject{Kind: "deleted role", Name: name, Rotated: map[string]bool{}, Values: map[string]map[int]rotation.Kind{}}
			e.Subjects, err = append(e.Subjects, s), v.history(ctx, "history/"+name, s, e.Since)
		}
	}
	return err
}

// subject reads one role or connection, with its history.
func (v *vault) subject(ctx context.Context, kind, name string, since time.Time) (*model.Subject, error) {
	s := &model.Subject{Kind: kind, Name: name, Rotated: map[string]bool{}, Values: map[string]map[int]rotation.Kind{}}
	at, historyAt := "status/"+name, "history/"+name
	if kind == "connection" {
		at, historyAt = "connections/"+name, "connections/"+name+"/history"
	}
	err := errors.Join(v.read(ctx, kind+"s/"+name, &s.Policy), v.read(ctx, at, &s.Status))
	if err != nil {
		return nil, err
	}
	if kind == "connection" {
		s.Policy.AutoRotate = s.Policy.Period > 0 || s.Policy.Schedule != ""
		created := &model.Stage{Version: s.Status.Version, Created: s.Status.Last}
		s.Status.Secrets = map[string]model.Secret{"admin": {Type: "administrator", Current: created}}
	}
	return s, v.history(ctx, historyAt, s, since)
}

// read decodes what a path answers.
func (v *vault) read(ctx context.Context, path string, into any) error {
	answer, err := v.client.Logical().ReadWithContext(ctx, v.mount+"/"+path)
	if err != nil {
		return refused("read", path, err)
	}
	if answer == nil {
		return fmt.Errorf("read %s: not found; -mount must be the path of the engine", path)
	}
	text, err := json.Marshal(answer.Data)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}

// list returns the names below a path, in order.
func (v *vault) list(ctx context.Context, path string) ([]string, error) {
	answer, err := v.client.Logical().ListWithContext(ctx, v.mount+"/"+path)
	if err != nil {
		return nil, refused("list", path, err)
	}
	if answer == nil {
		return nil, nil
	}
	var names []string
	keys, _ := answer.Data["keys"].([]any)
	for _, key := range keys {
		if name, ok := key.(string); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// refused adds what to do when the token may not.
func refused(what, path string, err error) error {
	var refusal *api.ResponseError
	if errors.As(err, &refusal) && refusal.StatusCode == http.StatusForbidden {
		return fmt.Errorf("%s %s: permission denied: VAULT_TOKEN must be a token with the policy bootstrap/install/policies/auditor.hcl, and -mount must be the path of the engine", what, path)
	}
	return fmt.Errorf("%s %s: %w", what, path, err)
}
