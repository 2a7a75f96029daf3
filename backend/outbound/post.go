package outbound

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Message is JSON to be posted.
type Message struct {
	URL   string
	TLSCA string
	// ID is the same when the message is sent again.
	ID   string
	Body any
	// Authorization is sent as the header of that name, if there is one.
	Authorization string
	// Key signs the message, as of Time; empty means no signature.
	Key  string
	Time time.Time
}

// Carries reports whether a credential goes along.
func (m Message) Carries() bool { return m.Authorization != "" || m.Key != "" }

// Post sends a message where the rule lets it go, and returns the status of the
// answer. The error quotes nothing of it, nor more of the address than its host,
// because the rest may be a secret.
func Post(ctx context.Context, rule Rule, m Message) (status int, err error) {
	body, err := json.Marshal(m.Body)
	if err != nil {
		return 0, errors.New("the message cannot be encoded")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL, bytes.NewReader(body))
	if err != nil {
		return 0, errors.New("the request cannot be made")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Smvm-Event-Id", m.ID)
	if m.Authorization != "" {
		req.Header.Set("Authorization", m.Authorization)
	}
	if m.Key != "" {
		req.Header.Set(SignatureHeader, Sign(m.Key, m.Time, body))
	}
	client, err := rule.Client(m.TLSCA, m.Carries())
	if err != nil {
		return 0, err
	}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return 0, Reason(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, nil
}

// SignatureHeader carries the signature of what a webhook gets: t=<seconds since
// 1970>,v1=<HMAC-SHA-256 of the seconds, a dot and the body, in hex>. Whoever
// checks it refuses times that are more than some minutes off, and ids that were
// seen within them, so that nothing can be replayed.
const SignatureHeader = "X-Smvm-Signature"

// MinKey is the length of the shortest key that signs: 128 bits, of what keys are made
// from. RFC 2104 discourages keys that are much shorter than the hash.
const MinKey = 16

// Sign makes the value of SignatureHeader.
func Sign(key string, now time.Time, body []byte) string {
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%d.%s", now.Unix(), body) //nolint:errcheck // a hash takes everything
	return fmt.Sprintf("t=%d,v1=%s", now.Unix(), hex.EncodeToString(mac.Sum(nil)))
}
