package rotation

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// Schema is the format of State that this code writes. A state with a newer one
// is refused: reading on would drop fields that the newer code relies on. Format 2
// has Next; states of format 1 are read, and become 2 when they are next saved.
const Schema = 2

// State is everything stored about one role. It is never changed in place: every
// change clones it, saves the clone, and only then shows it to readers.
type State struct {
	Schema int `json:"schema"`
	// Deleted marks the remains of a deleted role: no secrets, but the version
	// and the history, so that neither starts again when the name is used again.
	Deleted bool               `json:"deleted,omitempty"`
	Policy  Policy             `json:"policy"`
	Secrets map[string]*Secret `json:"secrets,omitempty"`
	// Version grows by one at every committed change and is never used twice.
	Version int `json:"version"`
	// Rotated is the newest version that a rotation has made; zero where the state was
	// stored before this was kept.
	Rotated int `json:"rotated,omitempty"`
	// LastRotation is when Version was committed.
	LastRotation time.Time `json:"last_rotation,omitzero"`
	// Anchor is when all secrets were last rotated together; the schedule counts
	// from here, so that rotating or rolling back a part does not move it.
	Anchor time.Time `json:"anchor,omitzero"`
	// NextRotation is the stored time of the next automatic rotation. Zero means
	// that none is planned, never that one is due.
	NextRotation time.Time `json:"next_rotation,omitzero"`
	// Checks and Destinations belong to Hooks. The list is never changed in
	// place.
	Checks       map[string]json.RawMessage `json:"checks,omitempty"`
	Destinations []string                   `json:"destinations,omitempty"`
	// PostCommit is what is left to be done after the latest commit.
	PostCommit *PostCommit `json:"following,omitempty"`
	// Asked is what applications answered when they were last asked to refuse retired
	// values, up to the next rotation of these secrets.
	Asked []Asked `json:"asked,omitempty"`
	// InFlight is the operation whose intent was saved and whose end was not.
	InFlight *Operation `json:"in_flight,omitempty"`
	// Failures counts the automatic attempts that failed in a row.
	Failures int `json:"failures,omitempty"`
	// FailedRetirements is how many of Failures were of retirements.
	FailedRetirements int `json:"failed_retirements,omitempty"`
	// RetryAt is the earliest time of the next automatic attempt after a failure.
	RetryAt time.Time `json:"retry_at,omitzero"`
	// LastError is the cause of the last failure, empty after a success.
	LastError string `json:"last_error,omitempty"`
	// NeedsAttention says that automatic rotations have stopped until a person
	// rotates by hand. Recovery and retirement go on, slowly.
	NeedsAttention bool `json:"needs_attention,omitempty"`
	// Rewound says that the clock was ahead before the latest commit, and what of it.
	Rewound *Rewound `json:"rewound,omitempty"`
	History History  `json:"history"`
	// Outbox holds the history entries that may not have been appended yet, and
	// always the latest one, and the latest of a request, which tells it what it
	// had done when it is repeated.
	Outbox []Entry `json:"outbox,omitempty"`
}

// Secret is one member of a role, with its values by stage.
type Secret struct {
	Name string `json:"name"`
	// Type selects the Driver.
	Type string `json:"type"`
	// ShownOnce says that only the request that asks for a new value is given it,
	// and that what is kept does not tell it. So nothing but a request rotates such
	// a secret: a value that nobody is given must not become current.
	ShownOnce bool `json:"shown_once,omitempty"`
	// Config belongs to the Driver.
	Config json.RawMessage `json:"config"`
	// Current is what applications use. It is nil only while the first value is
	// being made.
	Current *Value `json:"current,omitempty"`
	// Previous is what Current replaced, until it is retired.
	Previous *Value `json:"previous,omitempty"`
	// Pending exists only while an operation is in flight.
	Pending *Value `json:"pending,omitempty"`
	// Unresolved is what an operation that has ended could neither make current nor
	// put back.
	Unresolved *Unresolved `json:"unresolved,omitempty"`
	// Next is what the next rotation makes current, for secrets whose Driver
	// publishes ahead. Nobody uses it before that.
	Next *Value `json:"next,omitempty"`
}

// Unresolved says that the target of a secret may hold a value that is not its current
// one. It holds up no other secret, and no operation of its own is done before it is
// resolved.
type Unresolved struct {
	// Value is what the target may hold.
	Value *Value `json:"value"`
	// Operation is the recovery: what the operation that has left this was, for this
	// secret alone, under an id of its own.
	Operation Operation `json:"operation"`
	Since     time.Time `json:"since"`
	// Cause says why the target could not be put back, when that was last tried.
	Cause string `json:"cause"`
	// Attempts counts how often that was tried since.
	Attempts int `json:"attempts,omitempty"`
	// RetryAt is when it is tried again.
	RetryAt time.Time `json:"retry_at"`
}

// Value is the material of a secret in one of its stages.
type Value struct {
	Material Material `json:"material"`
	// Version of the role at which this became current; zero while pending.
	Version int       `json:"version,omitempty"`
	Created time.Time `json:"created"`
	// Supplied says that a person has chosen the value, so that others may guess it. Values
	// that were stored before this was noted don't say it.
	Supplied bool `json:"supplied,omitempty"`
	// Unreceived says that nobody was given the value, of a secret that is ShownOnce. States
	// of earlier versions don't say it.
	Unreceived bool `json:"unreceived,omitempty"`
	// RetireTime is the end of the overlap: until then readers are given the value. Set on
	// previous values only.
	RetireTime time.Time `json:"retire_time,omitzero"`
	// Published is since when others have been shown the value, ahead of its use;
	// zero if there was never a time when they were shown the secret without it.
	Published time.Time `json:"published,omitzero"`
	// Replaced is when another value took the place of this one; set on previous
	// values only, and not on those that were stored in format 1.
	Replaced time.Time `json:"replaced,omitzero"`
	// LookTime is when the engine looks again whether somebody needs a previous value.
	// Meanwhile the overlap goes on, and RetireTime is its latest end. Zero if nobody is
	// waited for.
	LookTime time.Time `json:"look_time,omitzero"`
	// DrainUntil is the latest end of the overlap of a previous value that somebody has
	// needed; when nobody is waited for any more, its end, and if nobody was, Replaced.
	// Zero if the engine has not looked yet. Earlier versions had no LookTime: where this
	// is later than RetireTime, the value is waited for.
	DrainUntil time.Time `json:"drain_until,omitzero"`
	// Prolonged says how the overlap of a previous value was made longer for readers.
	Prolonged Prolonged `json:"prolonged,omitzero"`
	// DestroyTime is when a previous value is destroyed at the earliest, set when its
	// overlap has ended and applications are to be asked to refuse it. Zero if it does not
	// outlive its overlap.
	DestroyTime time.Time `json:"destroy_time,omitzero"`
	// WaitsFor names who needs a previous value beyond its overlap, as the engine saw it
	// when it last looked; at the end, who still needed it.
	WaitsFor []string `json:"waits_for,omitempty"`
}

// Kind says what an operation does.
type Kind string

// The kinds of operations.
const (
	KindCreate     Kind = "create"   // first value of a secret
	KindImport     Kind = "import"   // first value, supplied by the operator
	KindRotate     Kind = "rotate"   // new values
	KindRollback   Kind = "rollback" // back to the previous values
	KindRetire     Kind = "retire"   // end of an overlap
	KindRepair     Kind = "repair"   // what a target refuses is set again
	KindMove       Kind = "move"     // the same values, used elsewhere
	KindPostCommit Kind = "follow"   // what comes after a commit
	KindPublish    Kind = "publish"  // copies at destinations, apart from any rotation
	KindDelete     Kind = "delete"   // the secret or the role is forgotten
	KindPrune      Kind = "prune"    // the oldest entries of the history are dropped

	KindConfigure Kind = "configure" // what is written about it is another
	KindNote      Kind = "note"      // what a person adds to an earlier record
)

// beside reports whether records of this kind come beside operations: they are of what
// people write, change no value, and nothing that is under way is in their way.
func (k Kind) beside() bool { return k == KindConfigure || k == KindNote }

// Trigger says what started an operation.
type Trigger string

// The triggers.
const (
	TriggerManual   Trigger = "manual"
	TriggerSchedule Trigger = "schedule"
	TriggerRecovery Trigger = "recovery"
	TriggerCheck    Trigger = "check" // what followed a commit has failed
	// TriggerConnection: how a target is reached was changed.
	TriggerConnection Trigger = "connection"
	// TriggerDrift: a target refused what is stored.
	TriggerDrift Trigger = "drift"
)

// Actor is who asked for an operation, as Vault names them; zero when it was the
// engine itself.
type Actor struct {
	DisplayName string `json:"display_name,omitempty"`
	EntityID    string `json:"entity_id,omitempty"`
}

// plainName is a name that can't be taken for more than a name.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_.@/-]*$`)

// SetApart returns a name for use in a sentence. People can choose their display names: what
// reads like a part of the sentence, or like another name, is quoted.
func SetApart(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return strconv.Quote(name)
}

// Operation is one run of the transaction, as saved with its intent.
type Operation struct {
	ID      string  `json:"id"`
	Kind    Kind    `json:"kind"`
	Trigger Trigger `json:"trigger"`
	Actor   Actor   `json:"actor,omitzero"`
	Reason  string  `json:"reason,omitempty"`
	// RequestID is Vault's id of the request: the idempotency token.
	RequestID string    `json:"request_id,omitempty"`
	Started   time.Time `json:"started"`
	// Secrets are the names this operation works on.
	Secrets []string `json:"secrets"`
	// RevokePrevious ends the overlap of the replaced values at once.
	RevokePrevious bool `json:"revoke_previous,omitempty"`
	// Force ends overlaps although somebody needs the previous values.
	Force bool `json:"force,omitempty"`
	// Tasks are what follows the commit; of a retirement, the checks that ask applications
	// to refuse the values.
	Tasks []Task `json:"tasks,omitempty"`
	// Follows is the id of the operation whose tasks these were, or whose failed
	// task this rolls back, FollowsKind its kind, and FollowsTrigger what started it;
	// earlier versions left that out.
	Follows        string  `json:"follows,omitempty"`
	FollowsKind    Kind    `json:"follows_kind,omitempty"`
	FollowsTrigger Trigger `json:"follows_trigger,omitempty"`
	// FailedTasks are the names of the required tasks whose failure this rolls back.
	FailedTasks []string `json:"failed_tasks,omitempty"`
}

// Decode reads a stored state and refuses one of a newer format.
func Decode(data []byte) (*State, error) {
	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("decode state: %w", err)
	}
	if s.Schema < 1 || s.Schema > Schema {
		return nil, fmt.Errorf("state has format %d, and this version reads 1 to %d: install the version that wrote it; nothing was changed", s.Schema, Schema)
	}
	for name, secret := range s.Secrets {
		if secret == nil || secret.Name != name {
			return nil, fmt.Errorf("state is damaged: secret %q is not described", name)
		}
	}
	if err := s.checkInFlight(); err != nil {
		return nil, err
	}
	return &s, nil
}

// FailedRotations counts the automatic attempts of the current failures that were not
// retirements: these are what MaxRetries limits.
func (s *State) FailedRotations() int { return s.Failures - s.FailedRetirements }

// checkInFlight makes sure that the operation in flight can be recovered.
func (s *State) checkInFlight() error {
	if s.InFlight == nil {
		return nil
	}
	for _, name := range s.InFlight.Secrets {
		secret := s.Secrets[name]
		if secret == nil || secret.Pending == nil && s.InFlight.Kind != KindRetire && s.InFlight.Kind != KindRepair {
			return fmt.Errorf("state is damaged: %s %s is in flight without a value for secret %q", s.InFlight.Kind, s.InFlight.ID, name)
		}
	}
	return nil
}

// Clone copies whatever a change may replace. Materials, configurations and
// history entries are immutable and shared.
func (s *State) Clone() *State {
	c := *s
	c.Secrets = make(map[string]*Secret, len(s.Secrets))
	for name, secret := range s.Secrets {
		copied := *secret
		c.Secrets[name] = &copied
	}
	c.Checks, c.Outbox = maps.Clone(s.Checks), slices.Clone(s.Outbox)
	return &c
}

// Names returns the names of the secrets in alphabetical order.
func (s *State) Names() []string {
	names := make([]string, 0, len(s.Secrets))
	for name := range s.Secrets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Undecided is a value that the target of s may accept beside those that readers are
// given, nil if there is none.
func (s *Secret) Undecided() *Value {
	if s.Unresolved != nil {
		return s.Unresolved.Value
	}
	return s.Pending
}

// PreviousAt returns the previous value if it is still valid at that time. One that is held
// is not, whatever a clock says that has gone back since.
func (s *Secret) PreviousAt(now time.Time) *Value {
	if s.Previous == nil || s.Previous.Held() || !now.Before(s.Previous.RetireTime) {
		return nil
	}
	return s.Previous
}
