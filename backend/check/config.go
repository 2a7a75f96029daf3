// Package check probes an application over HTTP, to find out how it gets on with
// the values that it is given: before a rotation, which a sick application had
// better not go through, and after it, for as long as somebody would watch. When the
// replaced values are retired, it finds out whether the application refuses them.
//
// A Config says what to ask and what to expect, Probe asks once, Measure asks
// often and tells how long the answers took. A Watch is what has been seen over
// time; it is data, so that whoever is active next can go on with it.
package check

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/placeholder"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// The phases of a rotation.
const (
	// Before anything is changed.
	Before = "before"
	// After the cut-over.
	After = "after"
	// Retire: after the overlap, before the previous values are destroyed.
	Retire = "retire"
)

// What to do when a check fails.
const (
	// Rollback goes back to the previous values; before a rotation, it keeps the
	// rotation from beginning.
	Rollback = "rollback"
	// Alert only tells.
	Alert = "alert"
)

// Config describes a check.
type Config struct {
	Phase string `json:"phase"`
	// URL is http or https. It has no placeholders, because URLs are logged.
	URL    string `json:"url"`
	Method string `json:"method"`
	// Headers, each like "Name: value", and Body may have placeholders for the
	// role's values, such as {{api_key}}.
	Headers []string `json:"headers,omitempty"`
	Body    string   `json:"body,omitempty"`
	// ExpectedStatus are the codes that count as healthy, with phase=retire as a refusal;
	// none means 200 to 299, and 401 and 403 there.
	ExpectedStatus []int `json:"expected_status,omitempty"`
	// ExpectedBody must be part of the answer's first 64 KiB.
	ExpectedBody string `json:"expected_body,omitempty"`
	// TLSCA is a PEM bundle; empty means the system's.
	TLSCA string `json:"tls_ca,omitempty"`
	// Timeout bounds one request.
	Timeout time.Duration `json:"timeout"`
	// Delay is the time from the cut-over to the first request.
	Delay time.Duration `json:"delay,omitempty"`
	// Attempts is how many requests in a row have to fail for the check to fail; with
	// phase=retire, within how many there has to be a refusal.
	Attempts int `json:"attempts"`
	// Interval is the time between two requests.
	Interval time.Duration `json:"interval"`
	// WatchPeriod is how long after the first request others follow; zero means
	// until one succeeds.
	WatchPeriod time.Duration `json:"watch_period,omitempty"`
	// SuccessThreshold is the percentage of requests in the watch period that
	// have to succeed.
	SuccessThreshold int `json:"success_threshold"`
	// Samples is how many requests are measured before and after; zero means
	// none, and then the following have no effect.
	Samples int `json:"samples,omitempty"`
	// Concurrency is how many of them are made at a time.
	Concurrency int `json:"concurrency,omitempty"`
	// Percentile of the latencies that is compared.
	Percentile int `json:"percentile,omitempty"`
	// MaxLatencyIncrease is by how many percent it may grow.
	MaxLatencyIncrease int `json:"max_latency_increase,omitempty"`
	// OnFailure is Rollback or Alert.
	OnFailure string `json:"on_failure"`
	// Checked says that the rule for where values may go was asked when this was
	// written; earlier versions had none.
	Checked bool `json:"checked,omitempty"`
}

// Carries reports whether requests may have values or credentials in them, or do more
// than ask: a header or body without a placeholder is there for a reason too, and so
// is a method that changes something.
func (c Config) Carries() bool {
	return len(c.Headers) > 0 || c.Body != "" || c.Method != http.MethodGet && c.Method != http.MethodHead
}

// Allowed says why requests may not be made, as far as that is known without asking
// DNS.
func (c Config) Allowed(rule outbound.Rule) error {
	return rule.For(c.Checked).Check(c.URL, c.Carries())
}

// Standing puts in a word what the rule says of the address.
func (c Config) Standing(rule outbound.Rule) string {
	return rule.For(c.Checked).Standing(c.URL, c.Carries())
}

// Default is a check of which only the URL is missing.
func Default() Config {
	return Config{
		Phase: After, Method: http.MethodGet, Timeout: 5 * time.Second, Attempts: 3, Interval: 5 * time.Second,
		SuccessThreshold: 100, Concurrency: 10, Percentile: 95, MaxLatencyIncrease: 50, OnFailure: Rollback,
	}
}

// When says for people when the check is asked.
func (c Config) When() string {
	if c.Phase == Retire {
		return "after the overlap"
	}
	return c.Phase + " a rotation"
}

// Longest is how long after the cut-over the check may still be undecided.
func (c Config) Longest() time.Duration {
	return c.Delay + c.WatchPeriod + time.Duration(c.Attempts)*(c.Timeout+c.Interval)
}

// insists is how long the check may take to ask as often as it does in a row.
func (c Config) insists() time.Duration {
	return time.Duration(c.Attempts)*(c.Timeout+c.Interval) - c.Interval
}

// Doubts are what is allowed of a check, and hardly meant. Mount is the path of the engine
// in Vault, such as smvm/. Applications read a new value up to refreshed after a rotation
// by hand.
func (c Config) Doubts(mount string, refreshed time.Duration) (doubts []string) {
	gives := c.Delay + time.Duration(c.Attempts-1)*c.Interval
	if c.Phase == After && c.OnFailure == Rollback && len(placeholder.Names(c.sent())) > 0 && gives < refreshed {
		doubts = append(doubts, fmt.Sprintf("the check fails if the application does not have the new values %s after the commit, but after a manual rotation applications read them up to %s later (refresh_interval). Set delay=%s", rotation.Span(gives), rotation.Span(refreshed), rotation.Span(refreshed)))
	}
	if c.WatchPeriod > 0 && c.WatchPeriod < c.Interval {
		doubts = append(doubts, fmt.Sprintf("watch_period is %s, and shorter than interval, which is %s: the engine sends no second request within it", rotation.Span(c.WatchPeriod), rotation.Span(c.Interval)))
	}
	if at, err := url.Parse(c.URL); err == nil && c.Method != http.MethodGet && c.Method != http.MethodHead &&
		strings.HasPrefix(at.Path, "/v1/") && strings.Contains(at.Path, "/"+mount) {
		doubts = append(doubts, "the check writes to this engine, if Vault is at that url. The engine sends it while the role rotates, and what it writes may wait for the end of that rotation: then the check fails with no answer in time, and so does the rotation")
	}
	return doubts
}

// longestBefore is how long the check may hold up a rotation; zero if it comes after it.
func (c Config) longestBefore() time.Duration {
	if c.Phase != Before {
		return 0
	}
	return c.insists()
}

// maxBefore bounds how long a check may hold up the rotation it comes before.
const maxBefore = time.Minute

// headerName is a token of RFC 9110 section 5.6.2.
var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// secondHeader is what follows the value of a header when two of them are given as one: a
// comma, a name and a colon, but no port and no scheme of an address.
var secondHeader = regexp.MustCompile(`,[ \t]*([A-Za-z][A-Za-z0-9-]*):(?:[^0-9/]|$)`)

// Validate returns an error that wraps rotation.ErrInvalid for what cannot be.
// Names are what placeholders may name, and retired what those of phase=retire may, each
// with its secret.
func (c Config) Validate(names []string, retired map[string]string) error {
	return cmp.Or(
		oneOf("phase", c.Phase, Before, After, Retire),
		c.validateRequest(names, retired),
		oneOf("on_failure", c.OnFailure, Rollback, Alert),
		within("timeout", c.Timeout, time.Second, 30*time.Second),
		within("interval", c.Interval, time.Second, time.Hour),
		within("delay", c.Delay, 0, 24*time.Hour),
		within("watch_period", c.WatchPeriod, 0, 24*time.Hour),
		between("attempts", c.Attempts, 1, 100),
		between("success_threshold", c.SuccessThreshold, 1, 100),
		between("samples", c.Samples, 0, 10_000),
		between("concurrency", c.Concurrency, 1, 100),
		between("percentile", c.Percentile, 1, 100),
		between("max_latency_increase", c.MaxLatencyIncrease, 1, 10_000),
		c.validateBefore(),
		c.validateRetire(retired),
	)
}

func (c Config) validateBefore() error {
	if longest := c.longestBefore(); longest > maxBefore {
		return rotation.Invalid("attempts", "with timeout and interval a check before a rotation may take %s, and the limit is %s: lower one of them", rotation.Span(longest), rotation.Span(maxBefore))
	}
	if c.Phase == Before && (c.WatchPeriod > 0 || c.Delay > 0 || c.Samples > 0) {
		return rotation.Invalid("phase", "before takes no delay, watch_period or samples; a check with phase=after also measures before the rotation")
	}
	return nil
}

func (c Config) validateRequest(names []string, retired map[string]string) error {
	if err := outbound.CheckURL(c.URL); err != nil {
		return rotation.Invalid("url", "%v", err)
	}
	if err := outbound.CheckCA(c.TLSCA); err != nil {
		return rotation.Invalid("tls_ca", "%v", err)
	}
	if _, err := http.NewRequest(c.Method, c.URL, nil); err != nil || c.Method != strings.ToUpper(c.Method) { //nolint:noctx // only tried
		return rotation.Invalid("method", "%q is not an HTTP method", c.Method)
	}
	if c.Method == http.MethodConnect || c.Method == http.MethodTrace {
		return rotation.Invalid("method", "%s makes servers pass on or show what the engine sends; use another method", c.Method)
	}
	for _, header := range c.Headers {
		name, value, ok := strings.Cut(header, ":")
		if !ok || !headerName.MatchString(name) || strings.ContainsAny(value, "\r\n\x00") {
			return rotation.Invalid("headers", "each must be like 'X-API-Key: {{api_key}}'")
		}
		if second := secondHeader.FindStringSubmatch(value); second != nil {
			return rotation.Invalid("headers", "has two headers in one text, the second after a comma: repeat the field for each, as headers='%s: …' headers='%s: …'", name, second[1])
		}
		if strings.EqualFold(name, "Host") && strings.Contains(value, "{{") {
			return rotation.Invalid("headers", "Host has a placeholder; write the name of a host")
		}
		if err := c.checkPlaceholders("headers", value, names, retired); err != nil {
			return err
		}
	}
	for _, status := range c.ExpectedStatus {
		if status < 100 || status > 599 {
			return rotation.Invalid("expected_status", "%d is not an HTTP status", status)
		}
	}
	return c.checkPlaceholders("body", c.Body, names, retired)
}

// Admit says why the rule does not let this be stored.
func (c Config) Admit(ctx context.Context, rule outbound.Rule) error {
	if err := rule.Admit(ctx, c.URL, c.Carries()); err != nil {
		return rotation.Invalid("url", "%v", err)
	}
	for _, header := range c.Headers {
		name, value, _ := strings.Cut(header, ":")
		if !strings.EqualFold(name, "Host") {
			continue
		}
		scheme, _, _ := strings.Cut(c.URL, ":")
		if err := rule.CheckHost(scheme, strings.TrimSpace(value), true); err != nil {
			return rotation.Invalid("headers", "Host: %v", err)
		}
	}
	return nil
}

func oneOf(field, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	last := len(allowed) - 1
	return rotation.Invalid(field, "is %q; it must be %s or %s", value, strings.Join(allowed[:last], ", "), allowed[last])
}

func within(field string, d, least, most time.Duration) error {
	if d < least || d > most {
		return rotation.Invalid(field, "is %s; it must be from %s to %s", rotation.Span(d), rotation.Span(least), rotation.Span(most))
	}
	return nil
}

func between(field string, n, least, most int) error {
	if n < least || n > most {
		return rotation.Invalid(field, "is %d; it must be from %d to %d", n, least, most)
	}
	return nil
}

// Decode reads a stored check.
func Decode(raw json.RawMessage) (Config, error) {
	var c Config
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("decode check: %w", err)
	}
	return c, nil
}
