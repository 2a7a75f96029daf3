package acceptance

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// letThrough has the mount let headers through, by the command that docs/tokens.md shows.
func (e *engine) letThrough() {
	e.Helper()
	shown := regexp.MustCompile("`(vault secrets tune -allowed[^`]*) smvm/`").FindStringSubmatch(page(e.T, "docs/tokens.md"))
	if shown == nil {
		e.Fatal("docs/tokens.md shows no command")
	}
	e.operator(shown[1] + " " + e.path + "/")
}

// published is an engine with a key set, whose mount lets headers through.
func published(t *testing.T) (e *engine, path string) {
	t.Helper()
	e = newEngine(t)
	e.write("roles/default", nil)
	path = "jwks/default/jwt"
	e.write("secrets/default/jwt", map[string]any{"type": "jwt", "algorithm": "ES256", "issuer": e.client.Address() + "/v1/" + e.path + "/" + path})
	e.letThrough()
	return e, path
}

// TestKeySetAsHTTPHasIt asks as RFC 9110 lets anybody ask: conditions, HEAD, queries.
func TestKeySetAsHTTPHasIt(t *testing.T) {
	t.Parallel()
	e, path := published(t)
	full := e.publicly(path)
	tag := full.header.Get("ETag")
	if full.status != http.StatusOK || len(tag) < 10 {
		t.Fatalf("it is answered %d with %v", full.status, full.header)
	}
	for condition, want := range map[string]int{
		tag: http.StatusNotModified, "W/" + tag: http.StatusNotModified, "*": http.StatusNotModified,
		`"other", ` + tag: http.StatusNotModified, `W/"a,b" ,W/` + tag + `,"c"`: http.StatusNotModified,
		`"other"`: http.StatusOK, `W/"other"`: http.StatusOK, strings.Trim(tag, `"`): http.StatusOK, `"*"`: http.StatusOK, "": http.StatusOK,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			got := e.publiclyBy(method, path, "If-None-Match", condition)
			if got.status != want {
				t.Errorf("%s with If-None-Match: %s is answered %d, want %d", method, condition, got.status, want)
			}
			if got.header.Get("ETag") != tag || got.header.Get("Cache-Control") == "" || got.header.Get("Vary") != "Accept" {
				t.Errorf("%s with If-None-Match: %s is answered with %v", method, condition, got.header)
			}
			if shown := want == http.StatusOK && method == http.MethodGet; shown && got.body != full.body || !shown && got.body != "" {
				t.Errorf("%s with If-None-Match: %s is answered the body %q", method, condition, got.body)
			}
		}
	}
	if got := e.publicly(path, "If-None-Match", `"other"`, "If-None-Match", tag); got.status != http.StatusNotModified {
		t.Errorf("with two lines of If-None-Match it is answered %d", got.status)
	}
	for _, at := range []string{path, path + "/.well-known/openid-configuration"} {
		want := e.publicly(at)
		for _, query := range []string{"", "?", "?v=1", "?role=other&name=other", "?keys=%00&keys=%ff", "?" + strings.Repeat("a", 1<<12)} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				got := e.publiclyBy(method, at+query)
				if got.status != http.StatusOK || got.header.Get("Content-Type") != want.header.Get("Content-Type") {
					t.Errorf("%s %s%.40s is answered %d with %v", method, at, query, got.status, got.header)
				}
				if method == http.MethodGet && got.body != want.body || method == http.MethodHead && got.body != "" {
					t.Errorf("%s %s%.40s is answered the body %q", method, at, query, got.body)
				}
			}
		}
	}
	if got := e.publiclyBy(http.MethodHead, "jwks/default/nope"); got.status != http.StatusNotFound {
		t.Errorf("HEAD of what is not there is answered %d", got.status)
	}
}

// TestKeySetContentType has clients say what they accept.
func TestKeySetContentType(t *testing.T) {
	t.Parallel()
	e, path := published(t)
	const registered, plain = "application/jwk-set+json", "application/json"
	tags := map[string]string{}
	for accept, want := range map[string]string{
		plain: plain, "Application/JSON; charset=utf-8": plain, "application/json, text/plain, */*": plain, "text/html;q=1, application/json;q=0.2": plain,
		"application/jwk-set+json;q=0.1, application/json": plain, "application/jwk-set+json;q=0, application/json;q=0.1": plain,
		registered: registered, "*/*": registered, "application/*": registered, "text/html": registered, "": registered, "nonsense;;": registered,
		"application/json, application/jwk-set+json": registered, "application/json;q=0, */*": registered, "application/json;q=0.5, application/jwk-set+json": registered,
	} {
		got := e.publicly(path, "Accept", accept)
		if got.status != http.StatusOK || got.header.Get("Content-Type") != want {
			t.Errorf("Accept: %s is answered %d, %s, want %s", accept, got.status, got.header.Get("Content-Type"), want)
		}
		tags[want] = got.header.Get("ETag")
	}
	if got := e.publicly(path, "Accept", "text/html", "Accept", plain).header.Get("Content-Type"); got != plain {
		t.Errorf("with two lines of Accept it is answered %s", got)
	}
	if tags[plain] == tags[registered] {
		t.Errorf("both types have the tag %s", tags[plain])
	}
	for accept, want := range map[string]int{plain: http.StatusNotModified, registered: http.StatusOK} {
		if got := e.publicly(path, "Accept", accept, "If-None-Match", tags[plain]); got.status != want {
			t.Errorf("who has it as %s and asks for %s is answered %d", plain, accept, got.status)
		}
	}
}
