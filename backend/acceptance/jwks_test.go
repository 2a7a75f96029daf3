package acceptance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// public is what was answered to somebody without a token.
type public struct {
	status int
	header http.Header
	body   string
}

// publicly reads a path as somebody without a token.
func (e *engine) publicly(path string, headers ...string) public {
	e.Helper()
	return e.publiclyBy(http.MethodGet, path, headers...)
}

// publiclyBy is publicly with another method. A header that is given twice is sent
// twice.
func (e *engine) publiclyBy(method, path string, headers ...string) public {
	e.Helper()
	req, err := http.NewRequestWithContext(e.Context(), method, e.client.Address()+"/v1/"+e.path+"/"+path, nil)
	if err != nil {
		e.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		e.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		e.Fatal(err)
	}
	return public{resp.StatusCode, resp.Header, string(body)}
}

// TestKeySetOverHTTP reads the public keys as verifiers do, without a token.
func TestKeySetOverHTTP(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("roles/default", nil)
	issuer := e.client.Address() + "/v1/" + e.path + "/jwks/default/jwt"
	e.write("secrets/default/jwt", map[string]any{"type": "jwt", "algorithm": "ES256", "issuer": issuer})
	e.write("secrets/default/hmac", map[string]any{"type": "jwt"})
	resp := e.publicly("jwks/default/jwt")
	var fresh int
	_, err := fmt.Sscanf(resp.header.Get("Cache-Control"), "public, max-age=%d", &fresh)
	if resp.status != http.StatusOK || resp.header.Get("Content-Type") != "application/jwk-set+json" || err != nil || fresh < 200 || fresh > 300 {
		t.Errorf("it is answered %d with %v", resp.status, resp.header)
	}
	if strings.Count(resp.body, `"kid"`) != 2 || strings.Contains(resp.body, `"d"`) {
		t.Errorf("the keys are %s", resp.body)
	}
	if got := e.publicly("jwks/default/jwt/.well-known/openid-configuration"); got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("the discovery document is answered %d with %v", got.status, got.header)
	}
	var answers []string
	for _, path := range []string{"jwks/default/hmac", "jwks/default/nope", "jwks/nope/jwt", "jwks/default/hmac/.well-known/openid-configuration"} {
		got := e.publicly(path)
		answers = append(answers, fmt.Sprint(got.status, got.body))
	}
	for _, answer := range answers {
		if !strings.HasPrefix(answer, "404") || answer != answers[0] {
			t.Errorf("what there is nothing to show of is answered %q", answers)
		}
	}
	for _, path := range []string{"creds/default", "jwt/default/jwt/sign", "jwks/default", "status"} {
		if got := e.publicly(path); got.status != http.StatusForbidden {
			t.Errorf("%s is answered %d without a token", path, got.status)
		}
	}
}

// TestKeySetUnchanged has the mount let the headers through that save sending what
// did not change.
func TestKeySetUnchanged(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("roles/default", nil)
	e.write("secrets/default/jwt", map[string]any{"type": "jwt", "algorithm": "EdDSA"})
	if tag := e.publicly("jwks/default/jwt").header.Get("ETag"); tag != "" {
		t.Errorf("without the mount letting it through, there is an ETag %s", tag)
	}
	if _, err := e.client.Logical().WriteWithContext(t.Context(), "sys/mounts/"+e.path+"/tune", map[string]any{
		"allowed_response_headers": "ETag", "passthrough_request_headers": "If-None-Match",
	}); err != nil {
		t.Fatal(err)
	}
	tag := e.publicly("jwks/default/jwt").header.Get("ETag")
	if got := e.publicly("jwks/default/jwt", "If-None-Match", tag); tag == "" || got.status != http.StatusNotModified {
		t.Errorf("with the ETag %s it is answered %d", tag, got.status)
	}
	e.write("rotate", nil)
	if got := e.publicly("jwks/default/jwt", "If-None-Match", tag); got.status != http.StatusOK {
		t.Errorf("after a rotation it is answered %d", got.status)
	}
}

// TestTokenOfAnIdentity signs for somebody who has logged in, with claims that
// their identity decides.
func TestTokenOfAnIdentity(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("roles/default", nil)
	e.write("secrets/default/jwt", map[string]any{
		"type": "jwt", "algorithm": "ES256", "claims_template": `{"sub": {{identity.entity.name}}, "team": {{identity.entity.metadata.team}}, "groups": {{identity.entity.groups.names}}}`,
	})
	if cause := e.refused(badRequest, "jwt/default/jwt/sign", nil); !strings.Contains(cause, "your token has none") {
		t.Error(cause)
	}
	caller := *e
	caller.client = e.person("alice-" + e.prefix)
	token := caller.write("jwt/default/jwt/sign", map[string]any{"claims": `{"scope": "read"}`})["token"]
	got := e.write("jwt/default/jwt/verify", map[string]any{"token": token})
	claims, _ := got["claims"].(map[string]any)
	if got["valid"] != true || claims["sub"] != "alice-"+e.prefix || claims["team"] != "desk" || claims["scope"] != "read" || fmt.Sprint(claims["groups"]) != "[staff-"+e.prefix+"]" {
		t.Errorf("the token of an identity is %v", got)
	}
}

// person is a client of somebody with an identity, in a group, who may sign.
func (e *engine) person(name string) *api.Client {
	e.Helper()
	ctx, logical := e.Context(), e.client.Logical()
	must := func(err error) {
		e.Helper()
		if err != nil {
			e.Fatal(err)
		}
	}
	mount := "userpass-" + e.prefix
	must(e.client.Sys().EnableAuthWithOptionsWithContext(ctx, mount, &api.EnableAuthOptions{Type: "userpass"}))
	must(e.client.Sys().PutPolicyWithContext(ctx, name, `path "`+e.path+`/jwt/default/+/sign" { capabilities = ["update"] }`))
	password := "login-" + name + "-0123456789"
	_, err := logical.WriteWithContext(ctx, "auth/"+mount+"/users/"+name, map[string]any{"password": password, "policies": name})
	must(err)
	entity, err := logical.WriteWithContext(ctx, "identity/entity", map[string]any{"name": name, "metadata": map[string]any{"team": "desk"}})
	must(err)
	_, err = logical.WriteWithContext(ctx, "identity/group", map[string]any{"name": "staff-" + e.prefix, "member_entity_ids": entity.Data["id"]})
	must(err)
	auth, err := e.client.Sys().ListAuthWithContext(ctx)
	must(err)
	_, err = logical.WriteWithContext(ctx, "identity/entity-alias", map[string]any{
		"name": name, "canonical_id": entity.Data["id"], "mount_accessor": auth[mount+"/"].Accessor,
	})
	must(err)
	login, err := logical.WriteWithContext(ctx, "auth/"+mount+"/login/"+name, map[string]any{"password": password})
	must(err)
	client, err := recorded(e.client)
	must(err)
	client.SetToken(login.Auth.ClientToken)
	return client
}

// TestApplicationOfThePage runs the application that docs/tokens.md shows, which knows
// only where the public keys are, across rotations and a rollback: no good token
// is refused, and no other is accepted.
func TestApplicationOfThePage(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.write("roles/default", map[string]any{"rotation_period": "1h", "overlap": "20m", "refresh_interval": "5m"})
	e.write("secrets/default/jwt", map[string]any{"type": "jwt", "algorithm": "ES256", "issuer": "orders", "audience": "shop", "exportable": true})
	app := e.application("jwks/default/jwt")
	for _, step := range []string{"", "rotate", "rollback"} {
		if step != "" {
			e.write(step, nil)
		}
		token := text(e.write("jwt/default/jwt/sign", map[string]any{"claims": map[string]any{"sub": "alice"}}), "token")
		if status, said := app(token); status != http.StatusOK || said != "hello alice\n" {
			t.Errorf("after %q, a good token is answered %d %q", step, status, said)
		}
		other := text(e.write("jwt/default/jwt/sign", map[string]any{"claims": map[string]any{"sub": "mallory"}}), "token")
		forged := other[:strings.LastIndex(other, ".")] + token[strings.LastIndex(token, "."):]
		if status, _ := app(forged); status != http.StatusUnauthorized {
			t.Errorf("after %q, a forged token is answered %d", step, status)
		}
	}
	e.tooEarly(app)
}

// tooEarly rotates once more, to a key that was published only a moment ago: the
// answer warns of it, and the application knows the key when it has read again,
// which the library does at most every 30 seconds.
func (e *engine) tooEarly(app func(token string) (int, string)) {
	e.Helper()
	resp, err := e.client.Logical().WriteWithContext(e.Context(), e.path+"/rotate", nil)
	if err != nil || !strings.Contains(strings.Join(resp.Warnings, " "), "secret jwt: the new value was published only") {
		e.Fatalf("rotating too early is answered %v, %v", resp, err)
	}
	token := text(e.write("jwt/default/jwt/sign", map[string]any{"claims": map[string]any{"sub": "alice"}}), "token")
	e.eventually("the application to read the keys again", time.Minute, func(context.Context) error {
		if status, _ := app(token); status != http.StatusOK {
			return errors.New("it does not know the key yet")
		}
		return nil
	})
}

// application starts bootstrap/apps/node/verify-token.mjs, and returns how to ask it.
func (e *engine) application(keys string) func(token string) (status int, said string) {
	e.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		e.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	cmd := nodeScript(e.T, "bootstrap/apps/node/verify-token.mjs")
	cmd.Env = append(os.Environ(), "PORT="+strconv.Itoa(port), "JWKS_URL="+e.client.Address()+"/v1/"+e.path+"/"+keys)
	if err := cmd.Start(); err != nil {
		e.Fatal(err)
	}
	ask := func(ctx context.Context, token string) (int, string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", port), nil)
		if err != nil {
			return 0, "", err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close() //nolint:errcheck // read only
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	e.eventually("the application to listen", 30*time.Second, func(ctx context.Context) error {
		status, _, err := ask(ctx, "")
		if err == nil && status != http.StatusUnauthorized {
			err = errors.New("it accepts no token at all")
		}
		return err
	})
	return func(token string) (int, string) {
		e.Helper()
		status, said, err := ask(e.Context(), token)
		if err != nil {
			e.Error(err)
		}
		return status, said
	}
}

// TestPageShowsTheApplication keeps docs/tokens.md and what the tests run the same.
func TestPageShowsTheApplication(t *testing.T) {
	t.Parallel()
	_, shown, _ := strings.Cut(page(t, "bootstrap/apps/node/verify-token.mjs"), "import http")
	if !strings.Contains(page(t, "docs/tokens.md"), "```js\nimport http"+shown+"```") {
		t.Error("docs/tokens.md does not show bootstrap/apps/node/verify-token.mjs as it is")
	}
}
