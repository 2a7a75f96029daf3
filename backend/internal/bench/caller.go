package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// caller sends requests to Vault, and does as little as it can with the answers:
// it shares the machine with what is measured.
type caller struct {
	http           *http.Client
	address, token string
}

func newCaller(address, token string) *caller {
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	return &caller{&http.Client{Transport: transport}, address + "/v1/", token}
}

// get reads a path and forgets the answer.
func (c *caller) get(ctx context.Context, path string) error {
	_, err := c.send(ctx, http.MethodGet, path, nil)
	return err
}

// post writes to a path and forgets the answer.
func (c *caller) post(ctx context.Context, path string, data map[string]any) error {
	_, err := c.send(ctx, http.MethodPost, path, data)
	return err
}

// data returns the data of an answer.
func (c *caller) data(ctx context.Context, method, path string, body map[string]any) (map[string]any, error) {
	raw, err := c.send(ctx, method, path, body)
	var answer struct{ Data map[string]any }
	if err == nil {
		err = json.Unmarshal(raw, &answer)
	}
	return answer.Data, err
}

// send sends a request, with a body if there is any.
func (c *caller) send(ctx context.Context, method, path string, data map[string]any) ([]byte, error) {
	var body io.Reader
	if data != nil {
		raw, err := json.Marshal(data)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.address+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Token", c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return answer, err
}
