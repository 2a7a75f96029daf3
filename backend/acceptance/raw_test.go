package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// raw sends requests as they are, with a token of its own, and returns what was
// answered as it is: without the API client's checks and repetitions.
type raw struct {
	*testing.T
	client *http.Client
	// url is that of the mount.
	url, token string
}

// patience bounds one request: more than the longest wait of any.
const patience = 70 * time.Second

// raw returns a sender with the root token.
func (e *engine) raw() *raw {
	return &raw{
		T: e.T, client: &http.Client{Transport: e.client.CloneConfig().HttpClient.Transport, Timeout: patience},
		url: e.client.Address() + "/v1/" + e.path, token: e.client.Token(),
	}
}

// reply is what was answered.
type reply struct {
	status int
	body   []byte
	took   time.Duration
}

// send sends a body, which is JSON or nil. A request without any answer fails the
// test.
func (r *raw) send(ctx context.Context, method, path string, body []byte) reply {
	r.Helper()
	started := time.Now()
	req, err := http.NewRequestWithContext(ctx, method, r.url+"/"+path, bytes.NewReader(body))
	if err != nil {
		r.Errorf("%s %q: %v", method, path, err)
		return reply{}
	}
	req.Header.Set("X-Vault-Token", r.token)
	req.Header.Set("X-Vault-Request", "true")
	resp, err := r.client.Do(req)
	if err != nil {
		r.Errorf("%s %q was not answered: %v", method, path, err)
		return reply{}
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Errorf("%s %q: %v", method, path, err)
	}
	return reply{resp.StatusCode, answer, time.Since(started)}
}

// do sends data.
func (r *raw) do(method, path string, data map[string]any) reply {
	r.Helper()
	var body []byte
	if data != nil {
		var err error
		if body, err = json.Marshal(data); err != nil {
			r.Fatal(err)
		}
	}
	return r.send(r.Context(), method, path, body)
}

// data returns the fields that were answered.
func (a reply) data() map[string]any {
	decoder := json.NewDecoder(bytes.NewReader(a.body))
	decoder.UseNumber()
	var answer struct {
		Data map[string]any `json:"data"`
	}
	if decoder.Decode(&answer) != nil {
		return nil
	}
	return answer.Data
}

// cause returns the text of a refusal.
func (a reply) cause() string { return strings.TrimSpace(string(a.body)) }
