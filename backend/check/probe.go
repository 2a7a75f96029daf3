package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/placeholder"
)

// maxBody is how much of an answer is looked at.
const maxBody = 64 << 10

// Probe asks once. The error says what is not as expected, and shows nothing of
// what was sent or answered.
func (c Config) Probe(ctx context.Context, rule outbound.Rule, values map[string]string) error {
	client, err := c.client(rule)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return c.ask(ctx, client, values)
}

// client is what requests are made with.
func (c Config) client(rule outbound.Rule) (*http.Client, error) {
	return rule.For(c.Checked).Client(c.TLSCA, c.Carries())
}

// Reach asks whether anything answers at the address, whatever it answers. Nothing of
// the request that the check makes is sent, and so no value either.
func (c Config) Reach(ctx context.Context, rule outbound.Rule) error {
	client, err := c.client(rule)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, c.URL, nil)
	if err != nil {
		return errors.New("the request cannot be made")
	}
	resp, err := client.Do(req)
	if err != nil {
		return outbound.Reason(err)
	}
	return resp.Body.Close()
}

func (c Config) ask(ctx context.Context, client *http.Client, values map[string]string) error {
	_, err := c.answer(ctx, client, values)
	return err
}

// answer is ask, and returns the status too, zero if there was no answer.
func (c Config) answer(ctx context.Context, client *http.Client, values map[string]string) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	body := placeholder.Fill(c.Body, values)
	req, err := http.NewRequestWithContext(ctx, c.Method, c.URL, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, errors.New("the request cannot be made")
	}
	for _, header := range c.Headers {
		name, value, _ := strings.Cut(header, ":")
		req.Header.Set(name, strings.TrimSpace(placeholder.Fill(value, values)))
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, outbound.Reason(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	switch {
	case !c.expects(resp.StatusCode):
		return resp.StatusCode, fmt.Errorf("status %d, expected %s", resp.StatusCode, c.wanted())
	case err != nil:
		return resp.StatusCode, outbound.Reason(err)
	case !bytes.Contains(answer, []byte(c.ExpectedBody)):
		return resp.StatusCode, errors.New("the answer does not contain expected_body")
	}
	return resp.StatusCode, nil
}

// expected are the codes that count; none means those of a success.
func (c Config) expected() []int {
	if len(c.ExpectedStatus) == 0 && c.Phase == Retire {
		return []int{http.StatusUnauthorized, http.StatusForbidden}
	}
	return c.ExpectedStatus
}

func (c Config) expects(status int) bool {
	if len(c.expected()) == 0 {
		return succeeds(status)
	}
	return slices.Contains(c.expected(), status)
}

func succeeds(status int) bool { return status >= 200 && status <= 299 }

func (c Config) wanted() string {
	if len(c.expected()) == 0 {
		return "200 to 299"
	}
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(c.expected())), " or "), "[]")
}

// Insist asks until an answer is as expected, at most Attempts times.
func (c Config) Insist(ctx context.Context, rule outbound.Rule, values map[string]string) error {
	var err error
	for i := range c.Attempts {
		if i > 0 && !wait(ctx, c.Interval) {
			return ctx.Err()
		}
		if err = c.Probe(ctx, rule, values); err == nil {
			return nil
		}
	}
	return err
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
