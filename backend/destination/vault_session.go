package destination

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
)

// kvSession is a use of a KV engine, with a token of its own where an AppRole is
// given.
type kvSession struct {
	*VaultKV
	client *http.Client
	token  string
}

// errStale says that Vault does not know the token that it has just given, which
// has been seen of a busy one.
var errStale = errors.New("the token of the login was not known to the Vault that gave it")

// use logs in, does something, and ends the session; once more with another token
// if that is what it takes.
func (v *VaultKV) use(ctx context.Context, rule outbound.Rule, do func(*kvSession) error) error {
	err := v.once(ctx, rule, do)
	if errors.Is(err, errStale) {
		err = v.once(ctx, rule, do)
	}
	return err
}

func (v *VaultKV) once(ctx context.Context, rule outbound.Rule, do func(*kvSession) error) error {
	s, err := v.open(ctx, rule)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	return do(s)
}

// open logs in.
func (v *VaultKV) open(ctx context.Context, rule outbound.Rule) (*kvSession, error) {
	client, err := rule.Client(v.TLSCA, true)
	if err != nil {
		return nil, err
	}
	s := &kvSession{VaultKV: v, client: client, token: v.Token}
	if s.token != "" {
		return s, nil
	}
	var answer struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	status, err := s.call(ctx, http.MethodPost, "auth/"+v.authMount()+"/login",
		map[string]any{"role_id": v.RoleID, "secret_id": v.SecretID}, &answer)
	switch {
	case err == nil && status == http.StatusBadRequest:
		err = refused("Vault does not take role_id and secret_id: write new ones to this destination")
	case err == nil && status == http.StatusOK && answer.Auth.Token == "":
		err = errors.New("the login was answered without a token")
	}
	s.token = answer.Auth.Token
	if err := explain(status, err, "Vault's login"); err != nil {
		s.close(ctx)
		return nil, err
	}
	return s, nil
}

// closeTimeout bounds the wait for the token's end.
const closeTimeout = 5 * time.Second

// close ends the session and, if it has one of its own, its token. One that can't
// be revoked ends by itself.
func (s *kvSession) close(ctx context.Context) {
	defer s.client.CloseIdleConnections()
	if s.Token != "" || s.token == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_, _ = s.call(ctx, http.MethodPost, "auth/token/revoke-self", nil, nil)
}

func (s *kvSession) path(kind, name string) string { return s.mount() + "/" + kind + "/" + name }

// maxAnswer is how much of an answer is read.
const maxAnswer = 1 << 20

// call makes one request. The status is zero if there is an error, which is of the
// way there; what is answered is decoded whatever the status.
func (s *kvSession) call(ctx context.Context, method, path string, body, answer any) (status int, err error) {
	var raw bytes.Buffer
	encoder := json.NewEncoder(&raw)
	encoder.SetEscapeHTML(false) // what others keep there stays as they wrote it
	if encoder.Encode(body) != nil {
		return 0, errors.New("the request cannot be encoded")
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(s.Address, "/")+"/v1/"+path, &raw)
	if err != nil {
		return 0, errors.New("the request cannot be made")
	}
	req.Header.Set("X-Vault-Request", "true")
	if s.token != "" {
		req.Header.Set("X-Vault-Token", s.token)
	}
	if s.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", s.Namespace)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, outbound.Reason(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, outbound.Reason(err)
	}
	if resp.StatusCode == http.StatusForbidden && s.Token == "" && bytes.Contains(text, []byte("invalid token")) {
		return 0, errStale
	}
	if answer != nil && len(text) > 0 && json.Unmarshal(text, answer) != nil {
		return 0, fmt.Errorf("the answer, of status %d, is not Vault's", resp.StatusCode)
	}
	return resp.StatusCode, nil
}

// read finds out what there is under a name.
func (s *kvSession) read(ctx context.Context, name string) (kvEntry, error) {
	var metadata struct {
		Data struct {
			Custom map[string]string `json:"custom_metadata"`
		} `json:"data"`
	}
	var data struct {
		Data struct {
			Data     map[string]json.RawMessage `json:"data"`
			Metadata struct {
				Version int `json:"version"`
			} `json:"metadata"`
		} `json:"data"`
	}
	found, err := s.get(ctx, s.path("metadata", name), &metadata)
	if err != nil {
		return kvEntry{}, err
	}
	if _, err := s.get(ctx, s.path("data", name), &data); err != nil {
		return kvEntry{}, err
	}
	return kvEntry{
		exists: found || data.Data.Metadata.Version > 0, custom: metadata.Data.Custom,
		version: data.Data.Metadata.Version, data: data.Data.Data,
	}, nil
}

// get reads what may not be there. A version that was deleted is a 404 too, whose
// answer says so.
func (s *kvSession) get(ctx context.Context, path string, answer any) (found bool, err error) {
	status, err := s.call(ctx, http.MethodGet, path, nil, answer)
	if err == nil && status == http.StatusNotFound {
		return false, nil
	}
	return true, explain(status, err, "Vault")
}

// allowed asks Vault whether the token may do with a name what publishing takes.
func (s *kvSession) allowed(ctx context.Context, name string) error {
	paths := []string{s.path("data", name), s.path("metadata", name)}
	answer := struct {
		Data map[string]any `json:"data"`
	}{}
	status, err := s.call(ctx, http.MethodPost, "sys/capabilities-self", map[string]any{"paths": paths}, &answer)
	if err := explain(status, err, "Vault"); err != nil {
		return err
	}
	for _, path := range paths {
		have := fmt.Sprint(answer.Data[path])
		for _, needed := range []string{"create", "read", "update"} {
			if !strings.Contains(have, needed) && !strings.Contains(have, "root") {
				return refused(`Vault denies %s on %s; give its policy: path "%s" { capabilities = ["create", "read", "update"] }`, needed, path, path)
			}
		}
	}
	return nil
}
