package acceptance

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"
)

// recorder is the transport of every test's client: it remembers the secrets
// that pass, and keeps every answer but that of creds, to be searched for them.
type recorder struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		if !strings.HasSuffix(req.URL.Path, "/wrapping/unwrap") { // whose token an answer is meant to show
			rememberSent(body)
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	resp, err := r.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if (isCreds(req.URL.Path) || strings.HasSuffix(req.URL.Path, "/sign")) && resp.StatusCode == http.StatusOK {
		rememberAnswered(body)
	} else {
		answers.keep(body)
	}
	return resp, nil
}

// isCreds recognizes the only paths that answer values: creds, and what unwraps the
// answers in which a value is shown once.
func isCreds(path string) bool {
	return strings.Contains(path, "/creds/") || strings.HasSuffix(path, "/creds") || strings.HasSuffix(path, "/wrapping/unwrap")
}

// secretFields are those that carry secrets in requests.
var secretFields = []string{"password", "secret", "private_key", "key", "value", "tls_key", "token", "secret_id", "secret_access_key"}

// rememberSent notes the secrets that a request carries: what is imported, and
// the administrator's passwords.
func rememberSent(body []byte) {
	var data map[string]any
	if json.Unmarshal(body, &data) != nil {
		return
	}
	for _, name := range secretFields {
		if value, ok := data[name].(string); ok {
			remember(value)
		}
	}
}

// rememberAnswered notes what creds answered.
func rememberAnswered(body []byte) {
	var answer struct{ Data map[string]any }
	if json.Unmarshal(body, &answer) != nil {
		return
	}
	for name, value := range answer.Data {
		for _, suffix := range []string{"password", "secret", "key", "private_jwk", "token", "connection_string", "value"} {
			if text, ok := value.(string); ok && strings.HasSuffix(name, suffix) && !strings.HasSuffix(name, "public_key") {
				remember(text)
			}
		}
	}
}

// answers are all bodies kept.
var answers transcript

type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *transcript) keep(body []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text.Write(body)
}

// recorded returns a client like that one which is recorded, and which does not
// repeat what was answered with a 5xx.
func recorded(client *api.Client) (*api.Client, error) {
	config := client.CloneConfig()
	config.HttpClient = &http.Client{Transport: recorder{config.HttpClient.Transport}}
	config.MaxRetries = 0
	made, err := api.NewClient(config)
	if err != nil {
		return nil, err
	}
	made.ClearNamespace()
	made.SetToken(client.Token())
	return made, nil
}
