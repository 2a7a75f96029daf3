package destination

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
)

// kvSession is a use of a KV engine, with a token of its own where an AppRole is
// given.
type kvSession struct {
	*VaultKV
	client *api.Client
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
	over, err := rule.Client(v.TLSCA, true)
	if err != nil {
		return err
	}
	defer over.CloseIdleConnections()
	over.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
		return &api.ResponseError{StatusCode: req.Response.StatusCode}
	}
	s := &kvSession{VaultKV: v}
	if s.client, err = newClient(&api.Config{Address: v.Address, HttpClient: over, CheckRetry: never, DisableRedirects: true}); err != nil {
		return errors.New("no client of Vault can be made for the address")
	}
	s.client.SetWrappingLookupFunc(func(string, string) string { return "" }) // not that of the environment
	s.client.SetNamespace(v.Namespace)
	s.client.SetToken(v.Token)
	defer s.logout(ctx)
	if err := s.login(ctx); err != nil {
		return err
	}
	return do(s)
}

// never leaves it to whoever publishes to try again.
func never(context.Context, *http.Response, error) (bool, error) { return false, nil }

// environment is held while what is in it is put aside.
var environment sync.Mutex

// newClient makes a client to which nothing comes from Vault's environment, which the
// library reads whatever the configuration says.
func newClient(config *api.Config) (*api.Client, error) {
	environment.Lock()
	defer environment.Unlock()
	for _, entry := range os.Environ() {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "VAULT_") {
			_ = os.Unsetenv(name)
			defer func() { _ = os.Setenv(name, value) }()
		}
	}
	return api.NewClient(config)
}

// login gets a token, unless one was given.
func (s *kvSession) login(ctx context.Context) error {
	if s.Token != "" {
		return nil
	}
	answer, err := s.client.Logical().WriteWithContext(ctx, "auth/"+s.authMount()+"/login",
		map[string]any{"role_id": s.RoleID, "secret_id": s.SecretID})
	switch {
	case answeredWith(err, http.StatusBadRequest, ""):
		return refused("Vault does not take role_id and secret_id: write new ones to this destination")
	case err != nil:
		return s.explain(err, "Vault's login")
	case answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "":
		return errors.New("the login was answered without a token")
	}
	s.client.SetToken(answer.Auth.ClientToken)
	return nil
}

// logoutTimeout bounds the wait for the token's end.
const logoutTimeout = 5 * time.Second

// logout ends the token of the session, if it has one of its own. One that can't be
// revoked ends by itself.
func (s *kvSession) logout(ctx context.Context) {
	if s.Token != "" || s.client.Token() == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutTimeout)
	defer cancel()
	_ = s.client.Auth().Token().RevokeSelfWithContext(ctx, "")
}

func (s *kvSession) path(kind, name string) string { return s.mount() + "/" + kind + "/" + name }

// answeredWith reports whether Vault has answered with that status, and those words.
func answeredWith(err error, status int, words string) bool {
	var answered *api.ResponseError
	return errors.As(err, &answered) && answered.StatusCode == status && strings.Contains(strings.Join(answered.Errors, " "), words)
}

// explain is the error for the end of a request to Vault, nil for success. What Vault
// says may quote what was sent, so only the status is repeated.
func (s *kvSession) explain(err error, who string) error {
	var answered *api.ResponseError
	var way *url.Error
	switch {
	case err == nil:
		return nil
	case s.Token == "" && answeredWith(err, http.StatusForbidden, "invalid token"):
		return errStale
	case errors.As(err, &answered):
		return explain(answered.StatusCode, nil, who)
	case errors.As(err, &way), errors.Is(err, context.DeadlineExceeded):
		return ruled(outbound.Reason(err))
	}
	return fmt.Errorf("%s gave an answer that is not Vault's", who)
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

// get reads what may not be there, as it is answered. A version that was deleted is a
// 404 too, whose answer says so.
func (s *kvSession) get(ctx context.Context, path string, answer any) (found bool, err error) {
	resp, err := s.client.Logical().ReadRawWithContext(ctx, path)
	if err != nil && !answeredWith(err, http.StatusNotFound, "") {
		return false, s.explain(err, "Vault")
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil && !errors.Is(err, io.EOF) {
		return false, s.explain(err, "Vault")
	}
	if resp.StatusCode == http.StatusNotFound {
		return false, nil
	}
	return true, explain(resp.StatusCode, nil, "Vault")
}

// allowed asks Vault whether the token may do with a name what publishing takes.
func (s *kvSession) allowed(ctx context.Context, name string) error {
	paths := []string{s.path("data", name), s.path("metadata", name)}
	answer, err := s.client.Logical().WriteWithContext(ctx, "sys/capabilities-self", map[string]any{"paths": paths})
	if err != nil {
		return s.explain(err, "Vault")
	}
	if answer == nil {
		answer = &api.Secret{}
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
