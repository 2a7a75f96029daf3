package main

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
)

// engine is what was read of one mount.
type engine struct {
	Mount, Environment string
	Since              time.Time
	Subjects           []*subject
}

// subject is a role, or a connection, whose administrator's password rotates too, or
// the configuration of the mount, which has a history only.
type subject struct {
	Kind, Name string
	Policy     policy
	Status     status
	// Problem says what is wrong with the history, empty if it is whole.
	Problem string
	// Entries is how many there ever were, Kept how many were read.
	Entries, Kept int
	// Records are those since the beginning of the report, Rotated the secrets that
	// were ever rotated, Values how each of them got the value of a version.
	Records []rotation.Record
	Rotated map[string]bool
	Values  map[string]map[int]rotation.Kind
}

// policy says when a subject rotates.
type policy struct {
	Period     int64  `json:"rotation_period"`
	Schedule   string `json:"rotation_schedule"`
	AutoRotate bool   `json:"auto_rotate"`
}

// status is how a subject is doing.
type status struct {
	Last      time.Time              `json:"last_vault_rotation"`
	Next      time.Time              `json:"next_vault_rotation"`
	Overdue   bool                   `json:"overdue"`
	Failures  int                    `json:"failures"`
	LastError string                 `json:"last_error"`
	Attention bool                   `json:"needs_attention"`
	Advice    string                 `json:"advice"`
	Overlap   string                 `json:"overlap"`
	Version   int                    `json:"version"`
	Secrets   map[string]secretState `json:"secrets"`
}

// secretState is which values a secret has.
type secretState struct {
	Type          string `json:"type"`
	ByRequestOnly bool   `json:"by_request_only"`
	Current       *stage `json:"current"`
	Previous      *stage `json:"previous"`
}

// stage is one value of a secret, without the value.
type stage struct {
	Version    int       `json:"version"`
	Created    time.Time `json:"created"`
	RetireTime time.Time `json:"retire_time"`
	Uses       int       `json:"uses"`
	Sessions   *int      `json:"sessions"`
	LastUsed   time.Time `json:"last_used"`
}

// vault reads below one mount.
type vault struct {
	client *api.Client
	mount  string
}

// readEngine reads all that the report tells, from Vault as the environment says.
func readEngine(ctx context.Context, mount string, since time.Time) (*engine, error) {
	client, err := api.NewClient(nil)
	if err != nil {
		return nil, fmt.Errorf("prepare to talk to Vault: %w", err)
	}
	v := &vault{client: client, mount: strings.Trim(mount, "/")}
	e := &engine{Mount: v.mount, Since: since}
	var config struct {
		Environment string `json:"environment"`
	}
	if err := v.read(ctx, "config", &config); err != nil {
		return nil, err
	}
	e.Environment = config.Environment
	changes := &subject{Kind: "configuration"}
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
	return e, nil
}

// subject reads one role or connection, with its history.
func (v *vault) subject(ctx context.Context, kind, name string, since time.Time) (*subject, error) {
	s := &subject{Kind: kind, Name: name, Rotated: map[string]bool{}, Values: map[string]map[int]rotation.Kind{}}
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
		created := &stage{Version: s.Status.Version, Created: s.Status.Last}
		s.Status.Secrets = map[string]secretState{"admin": {Type: "administrator", Current: created}}
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
		return fmt.Errorf("read %s: there is nothing", path)
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
		return fmt.Errorf("%s %s: not permitted: the token in VAULT_TOKEN needs the policy bootstrap/policies/auditor.hcl, and -mount the path of the engine", what, path)
	}
	return fmt.Errorf("%s %s: %w", what, path, err)
}
