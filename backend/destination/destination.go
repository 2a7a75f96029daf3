// Package destination publishes copies of a role's values to where others look for
// them: one file per type of target, each a Target that passes one conformance
// suite.
//
// A copy carries a stamp, the version of its values and when they were committed,
// which the target keeps with the value. So an older copy never replaces a newer
// one, whoever publishes it and however late, and publishing the same copy twice is
// as good as once. What is at the target and is not marked as this engine's own is
// never overwritten, unless the configuration says so.
package destination

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Target is where copies go. Its errors hold no value and no credential. One that
// wraps ErrRefused will be the same until somebody changes something; others may be
// gone the next time.
type Target interface {
	// Fields are the settings of the type, by the names that operators know. Those
	// in SecretFields are never shown.
	Fields() map[string]*string
	// Validate says what cannot be, as an error that wraps rotation.ErrInvalid.
	Validate() error
	// Addresses are all that values and credentials are sent to, by the names of the
	// settings that say so.
	Addresses() map[string]string
	// Where names the place for people.
	Where() string
	// Preflight tries, without changing anything, whether the names of c may be
	// published under.
	Preflight(ctx context.Context, rule outbound.Rule, c Copy) error
	// Untried names what publishing takes and Preflight cannot try; empty if it tries
	// all there is.
	Untried() string
	// Publish makes the target hold c, and reads it back.
	Publish(ctx context.Context, rule outbound.Rule, c Copy) error
	// Compare says what the target holds otherwise than c; nothing if it holds c.
	// ErrNoReading says that it cannot be asked.
	Compare(ctx context.Context, rule outbound.Rule, c Copy) (differences []string, err error)
}

// The types of targets.
const (
	TypeAWSSecretsManager = "aws_secrets_manager"
	TypeVaultKV           = "vault_kv"
	TypeWebhook           = "webhook"
)

// targets make an empty target of each type.
var targets = map[string]func() Target{
	TypeAWSSecretsManager: func() Target { return &AWSSecretsManager{} },
	TypeVaultKV:           func() Target { return &VaultKV{} },
	TypeWebhook:           func() Target { return &Webhook{} },
}

// Types lists the types in alphabetical order.
func Types() []string {
	names := make([]string, 0, len(targets))
	for name := range targets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// SecretFields are the settings that are never shown.
var SecretFields = []string{"key", "secret_access_key", "secret_id", "token"}

var (
	// ErrRefused says that trying again is of no use.
	ErrRefused = errors.New("refused")
	// ErrNoReading says that a target takes values and shows none.
	ErrNoReading = errors.New("the target shows nothing of what it holds")
	// errLying says that a target did not keep what it had taken.
	errLying = errors.New("was taken by the target, which holds another value")
	// errContended says that somebody else writes at the same time.
	errContended = errors.New("somebody else writes to it at the same time")
)

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// foreign is the refusal to overwrite what is not this engine's.
func foreign() error {
	return refused("exists already and is not this engine's: give values another name, remove it there, or write adopt=true to take it over")
}

// superseded is the refusal to overwrite what is newer.
func superseded(newer Stamp) error {
	return refused("holds version %d of %s, which is newer: another node has published it, or Vault was restored from a snapshot; the next rotation overwrites it",
		newer.Version, newer.Time.Format(time.RFC3339))
}

// Item is one value, and the name that it has at the target.
type Item struct {
	Name, Value string
	// ID is as that of a Copy, for the item alone.
	ID string
}

// Copy is what a target is to hold for one role.
type Copy struct {
	// ID is the same for the same values of the same version, and tells nothing of
	// them.
	ID string
	// Owner is who publishes: it marks what is this engine's own.
	Owner string
	// Role is whose values these are.
	Role  string
	Stamp Stamp
	// Items are in alphabetical order.
	Items []Item
	// Adopt says that what is not this engine's own may be overwritten.
	Adopt bool
}

// Stamp orders the copies of a role.
type Stamp struct {
	Version int
	// Time is when that version was committed, in whole seconds.
	Time time.Time
}

// older reports whether a copy must not replace the other one. Both have to agree,
// because each alone can go back: versions when Vault is restored from a snapshot,
// time when another node's clock is behind.
func (s Stamp) older(other Stamp) bool {
	return s.Version < other.Version && !s.Time.After(other.Time)
}

// String is the form in which targets keep a stamp.
func (s Stamp) String() string { return fmt.Sprintf("%d-%d", s.Version, s.Time.Unix()) }

// parseStamp reads what String makes; what is something else is the zero Stamp,
// which is older than any.
func parseStamp(text string) Stamp {
	version, seconds, _ := strings.Cut(text, "-")
	v, errVersion := strconv.Atoi(version)
	s, errSeconds := strconv.ParseInt(seconds, 10, 64)
	if errVersion != nil || errSeconds != nil {
		return Stamp{}
	}
	return Stamp{Version: v, Time: time.Unix(s, 0).UTC()}
}

// checkWay refuses addresses and certificates that are none.
func checkWay(ca string, addresses map[string]string) error {
	for _, field := range slices.Sorted(maps.Keys(addresses)) {
		if err := outbound.CheckURL(addresses[field]); err != nil {
			return rotation.Invalid(field, "%v", err)
		}
	}
	if err := outbound.CheckCA(ca); err != nil {
		return rotation.Invalid("tls_ca", "%v", err)
	}
	return nil
}

// ruled marks what the rule has refused, and will refuse again.
func ruled(err error) error {
	var refusal *outbound.Refusal
	if errors.As(err, &refusal) {
		return fmt.Errorf("%w: %w", ErrRefused, refusal)
	}
	return err
}
