package model

import (
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// Engine is what was read of one mount.
type Engine struct {
	Mount, Environment string
	Since              time.Time
	Subjects           []*Subject
}

// Subject is a role, or a connection, whose administrator's password rotates too, or
// the configuration of the mount, which has a history only.
type Subject struct {
	Kind, Name string
	Policy     Policy
	Status     Status
	// Problem says what is wrong with the history, empty if it is whole.
	Problem string
	// Entries is how many there ever were, Kept how many were read.
	Entries, Kept int
	// Records are those since the beginning of the report, Rotated the secrets that
	// were ever rotated, Values how each of them got the value of a version.
	Records []rotation.Record
	Rotated map[string]bool
	Values  map[string]map[int]rotation.Kind
}

// Policy says when a subject rotates.
type Policy struct {
	Period     int64  `json:"rotation_period"`
	Schedule   string `json:"rotation_schedule"`
	AutoRotate bool   `json:"auto_rotate"`
}

// Status is how a subject is doing.
type Status struct {
	Last      time.Time         `json:"last_vault_rotation"`
	Next      time.Time         `json:"next_vault_rotation"`
	Overdue   bool              `json:"overdue"`
	Failures  int               `json:"failures"`
	LastError string            `json:"last_error"`
	Attention bool              `json:"needs_attention"`
	Advice    string            `json:"advice"`
	Version   int               `json:"version"`
	Secrets   map[string]Secret `json:"secrets"`
	Readers   Readers           `json:"readers"`
}

// Readers is who reads a role.
type Readers struct {
	Known   int `json:"known"`
	Current int `json:"current"`
	// LateCount is how many have a previous value and have not read the current one, Late
	// some of them.
	LateCount int    `json:"late_count"`
	Late      []Late `json:"late"`
}

// Late is a reader that is late.
type Late struct {
	Name     string    `json:"name"`
	Entity   string    `json:"entity"`
	EntityID string    `json:"entity_id"`
	Version  int       `json:"version"`
	LastRead time.Time `json:"last_read"`
}

// Secret is which values a secret has.
type Secret struct {
	Type          string `json:"type"`
	ByRequestOnly bool   `json:"by_request_only"`
	Current       *Stage `json:"current"`
	Previous      *Stage `json:"previous"`
}

// Stage is one value of a secret, without the value.
type Stage struct {
	Version    int       `json:"version"`
	Created    time.Time `json:"created"`
	RetireTime time.Time `json:"retire_time"`
	Uses       int       `json:"uses"`
	Sessions   *int      `json:"sessions"`
	LastUsed   time.Time `json:"last_used"`
	// WaitsFor names who needs the value beyond its overlap, which ends at DrainUntil at
	// the latest.
	WaitsFor   []string  `json:"waits_for"`
	DrainUntil time.Time `json:"drain_until"`
}

// Add keeps of a record what the report needs.
func (s *Subject) Add(rec rotation.Record, since time.Time) {
	s.Kept++
	for _, r := range rec.Results {
		if rec.Outcome == rotation.OutcomeCompleted && r.To != r.From {
			s.Rotated[r.Secret] = s.Rotated[r.Secret] || rec.Kind == rotation.KindRotate
			if s.Values[r.Secret] == nil {
				s.Values[r.Secret] = map[int]rotation.Kind{}
			}
			s.Values[r.Secret][r.To] = rec.Kind
		}
	}
	if rec.Started.After(since) {
		s.Records = append(s.Records, rec)
	}
}
