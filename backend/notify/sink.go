package notify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// The types of sinks.
const (
	// Webhook gets an Event as JSON, signed if there is a key.
	Webhook = "webhook"
	// Slack gets a text, as Slack and what is compatible with it take it.
	Slack = "slack"
	// Alertmanager is the API of Prometheus Alertmanager, version 2.
	Alertmanager = "alertmanager"
)

// Config describes where to send which events.
type Config struct {
	Type string `json:"type"`
	// URL is what to post to; of an Alertmanager, its base.
	URL string `json:"url"`
	// Events are the names of those to send; none means all.
	Events []string `json:"events,omitempty"`
	// Roles are the names of those whose events are sent; none means all.
	Roles []string `json:"roles,omitempty"`
	// Authorization is sent as the header of that name.
	Authorization string `json:"authorization,omitempty"`
	// Key signs what a webhook gets.
	Key string `json:"key,omitempty"`
	// TLSCA is a PEM bundle; empty means the system's.
	TLSCA string `json:"tls_ca,omitempty"`
	// Notice is how long before a rotation rotation_due_soon is sent.
	Notice time.Duration `json:"notice"`
	// Created is when the alert was: events from before are not sent.
	Created time.Time `json:"created"`
	// Checked says that the rule for where credentials may go was asked when this was
	// written; earlier versions had none.
	Checked bool `json:"checked,omitempty"`
}

// DefaultNotice is the procedure's: five days.
const DefaultNotice = 5 * 24 * time.Hour

// Validate returns an error that wraps rotation.ErrInvalid for what cannot be.
func (c Config) Validate() error {
	caErr := outbound.CheckCA(c.TLSCA)
	urlErr := outbound.CheckURL(c.URL)
	switch {
	case !slices.Contains([]string{Webhook, Slack, Alertmanager}, c.Type):
		return rotation.Invalid("type", "is %q; it must be webhook, slack or alertmanager", c.Type)
	case urlErr != nil:
		return rotation.Invalid("url", "%v", urlErr)
	case c.Key != "" && c.Type != Webhook:
		return rotation.Invalid("key", "is for type webhook; %s takes no signature", c.Type)
	case strings.ContainsAny(c.Authorization, "\r\n"):
		return rotation.Invalid("authorization", "has a line break")
	case caErr != nil:
		return rotation.Invalid("tls_ca", "%v", caErr)
	case c.Notice < 0 || c.Notice > 365*24*time.Hour:
		return rotation.Invalid("notice", "is %s; it must be at most a year", rotation.Span(c.Notice))
	}
	for _, name := range c.Events {
		if severities[name] == "" {
			return rotation.Invalid("events", "%q is not known; there are: %s", name, strings.Join(Names(), ", "))
		}
	}
	return nil
}

// Admit says why the rule does not let this be stored.
func (c Config) Admit(ctx context.Context, rule outbound.Rule) error {
	if err := rule.Admit(ctx, c.URL, c.message().Carries()); err != nil {
		return rotation.Invalid("url", "%v", err)
	}
	return nil
}

// Standing puts in a word what the rule says of the address.
func (c Config) Standing(rule outbound.Rule) string {
	return rule.For(c.Checked).Standing(c.URL, c.message().Carries())
}

// message is what is sent, but for what it says.
func (c Config) message() outbound.Message {
	return outbound.Message{URL: c.address(), TLSCA: c.TLSCA, Authorization: c.Authorization, Key: c.Key}
}

// Wants reports whether the sink gets that event.
func (c Config) Wants(e Event) bool {
	return e.Event == Test ||
		(len(c.Events) == 0 || slices.Contains(c.Events, e.Event)) && (len(c.Roles) == 0 || slices.Contains(c.Roles, e.Role))
}

// sendTimeout bounds one delivery.
const sendTimeout = 10 * time.Second

// Send posts an event, if the rule allows that. The error holds no secret, and of the
// address, which may be one, only its host.
func (c Config) Send(ctx context.Context, rule outbound.Rule, e Event, now time.Time) error {
	return c.post(ctx, rule, e.ID, c.payload(e, now), now)
}

func (c Config) post(ctx context.Context, rule outbound.Rule, id string, body any, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	m := c.message()
	m.ID, m.Body, m.Time = id, body, now
	status, err := outbound.Post(ctx, rule.For(c.Checked), m)
	if err == nil && status >= 300 && status < 400 {
		return fmt.Errorf("answered with status %d, and the engine follows no redirects: give the address to which it redirects", status)
	}
	if err == nil && (status < 200 || status > 299) {
		return fmt.Errorf("answered with status %d", status)
	}
	return err
}

func (c Config) address() string {
	if c.Type == Alertmanager {
		return strings.TrimSuffix(c.URL, "/") + "/api/v2/alerts"
	}
	return c.URL
}
