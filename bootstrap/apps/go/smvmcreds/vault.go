package smvmcreds

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 1 << 20

// Vault reads the credentials of a role from Vault's API, or through the listener
// of a Vault Agent or Vault Proxy on the same machine, and has tokens signed there.
type Vault struct {
	// Address is the URL of Vault, or of the Agent, such as http://127.0.0.1:8100.
	Address string
	// Path is the role's, with the mount: smvm/creds/orders.
	Path string
	// Auth gets the tokens. With an Agent that adds its own, it is nil.
	Auth Auth
	// Namespace is of Vault Enterprise; empty for none.
	Namespace string
	// HTTP is the client to use, for example one that trusts a private CA. By
	// default it is http.DefaultClient, which uses the proxy that the environment
	// names; for an Address of http it is one without, since a proxy would read
	// tokens and values. Redirects are never followed, whatever it says about them.
	HTTP *http.Client
}

// Auth is a way to log in to Vault.
type Auth interface {
	// Token returns a token that is valid, logging in where it has to.
	Token(ctx context.Context, v *Vault) (string, error)
	// Refused says that Vault has refused the last token.
	Refused()
}

// StatusError is an answer of Vault other than success.
type StatusError struct {
	// Code is the HTTP status, Errors are what Vault says about it.
	Code   int
	Errors []string
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("Vault answers %d: %s", e.Code, strings.Join(e.Errors, "; "))
}

// Read implements Reader. It asks for values only if the version is another one,
// unless a previous value is held: that such a value has ended makes no new
// version, and must be noticed. After Vault was restored from a snapshot, a rotation
// makes a version that there was before: then it asks for values as well.
func (v *Vault) Read(ctx context.Context, have *Credentials) (*Credentials, error) {
	path := v.Path
	if have != nil && !have.offersPrevious() {
		path += "?if_version=" + strconv.Itoa(have.Version)
	}
	var answer struct{ Data map[string]any }
	if err := v.ask(ctx, http.MethodGet, path, nil, &answer); err != nil {
		return nil, err
	}
	c, err := parse(answer.Data, have)
	if errors.Is(err, errOtherRotation) {
		return v.Read(ctx, nil)
	}
	return c, err
}

// ask sends a request with a token. One that is refused is replaced, once.
func (v *Vault) ask(ctx context.Context, method, path string, body []byte, answer any) error {
	err := v.askOnce(ctx, method, path, body, answer)
	var refusal *StatusError
	if v.Auth != nil && errors.As(err, &refusal) && refusal.Code == http.StatusForbidden {
		v.Auth.Refused()
		err = v.askOnce(ctx, method, path, body, answer)
	}
	return err
}

func (v *Vault) askOnce(ctx context.Context, method, path string, body []byte, answer any) error {
	token := ""
	if v.Auth != nil {
		var err error
		if token, err = v.Auth.Token(ctx, v); err != nil {
			return fmt.Errorf("log in to Vault: %w", err)
		}
	}
	return v.call(ctx, method, path, token, bytes.NewReader(body), answer)
}

// call sends one request to Vault's API and decodes the answer.
func (v *Vault) call(ctx context.Context, method, path, token string, body io.Reader, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(v.Address, "/")+"/v1/"+path, body)
	if err != nil {
		return fmt.Errorf("make request for %s: %w", path, err)
	}
	request.Header.Set("X-Vault-Request", "true")
	if token != "" {
		request.Header.Set("X-Vault-Token", token)
	}
	if v.Namespace != "" {
		request.Header.Set("X-Vault-Namespace", v.Namespace)
	}
	response, err := v.client(request.URL.Scheme).Do(request)
	if err != nil {
		return fmt.Errorf("ask Vault: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	return decode(response, answer)
}

// unproxied connects to where it is told to, whatever the environment says.
var unproxied = &http.Transport{IdleConnTimeout: time.Minute}

// client returns one that takes a redirect for the answer. A request has a token
// or a login in it, and those are for the address that was configured.
func (v *Vault) client(scheme string) *http.Client {
	client := *cmp.Or(v.HTTP, http.DefaultClient)
	if v.HTTP == nil && scheme == "http" {
		client = http.Client{Transport: unproxied}
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

// redirected says where an answer points. Standby servers of Vault point at the
// active one when they do not forward requests.
func redirected(response *http.Response) error {
	target := "another address"
	if location, err := response.Location(); err == nil {
		target = location.Scheme + "://" + location.Host
	}
	return fmt.Errorf("ask Vault: it answers %d and points at %s, which is not followed, because the request has a token or a login in it: "+
		"set Address to the active server or to a load balancer before it, or let standby servers forward requests", response.StatusCode, target)
}

// decode reads an answer. Errors of Vault never hold a value of the engine.
func decode(response *http.Response, answer any) error {
	decoder := json.NewDecoder(io.LimitReader(response.Body, maxAnswer))
	decoder.UseNumber()
	if response.StatusCode >= http.StatusMultipleChoices && response.StatusCode < http.StatusBadRequest {
		return redirected(response)
	}
	if response.StatusCode >= http.StatusBadRequest {
		refusal := &StatusError{Code: response.StatusCode}
		_ = decoder.Decode(refusal) // without a text, the code has to do
		return refusal
	}
	if err := decoder.Decode(answer); err != nil {
		return errors.New("decode answer of Vault: it is not the JSON it should be")
	}
	return nil
}
