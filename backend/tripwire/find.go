package tripwire

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"slices"
	"strings"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/secret"
)

// The stages of values beside those that readers can ask for.
const (
	// StagePending is that of a value that an operation in flight, or one that left its
	// secret unresolved, may have set at the target.
	StagePending = "pending"
	// StageNext is that of a key that is published, and not used before the next rotation.
	StageNext = "next"
	// StageRetired is that of a value that only its digests are left of, or that is only held
	// to ask applications to refuse it.
	StageRetired = "retired"
)

// Match says what a value is, or was.
type Match struct {
	// Key is that of the role or connection, Role nil if it was deleted.
	Key  string
	Role *rotation.Role
	// Secret is the name, Type the type of the secret.
	Secret, Type, Stage string
	// Version is the one at which the value became current; zero if it never did.
	Version int
	// Token says that the text is a token, which tells others nothing of the key that has
	// signed it.
	Token bool
}

// Name is that of the role or connection.
func (m Match) Name() string {
	_, name, _ := strings.Cut(m.Key, "/")
	return name
}

// IsConnection reports whether the value is the password of a connection's administrator.
func (m Match) IsConnection() bool { return strings.HasPrefix(m.Key, roles.ConnectionPrefix) }

// equal returns 1 for the same digests, and takes as long for others.
func equal(x, y secret.Digest) int { return subtle.ConstantTimeCompare(x[:], y[:]) }

// Find returns all that a value is or was, ordered by role and secret. A token stands for
// the key that signed it; for a retired one if it names that. Every digest of every value
// is compared, whatever is found, so that the time it takes tells nothing of how much of a
// guess is right. What can't be read because it is damaged is in unread, and is not
// searched.
func (t *Tripwire) Find(ctx context.Context, text string) (found []Match, unread, err error) {
	guess := t.guessOf(text)
	live := map[string]*rotation.Role{}
	for _, prefix := range []string{roles.Prefix, roles.ConnectionPrefix} {
		all, damaged, err := t.ports.Roles.Readable(ctx, prefix)
		if err != nil {
			return nil, nil, err
		}
		unread = errors.Join(unread, damaged)
		for _, r := range all {
			live[r.Key] = r
			found = append(found, t.findLive(r, guess)...)
		}
	}
	retired, err := t.findRetired(ctx, guess, live)
	if err != nil {
		return nil, nil, err
	}
	// What was about to be given up, and was not, is still what it is.
	retired = slices.DeleteFunc(retired, func(m Match) bool {
		return slices.ContainsFunc(found, func(l Match) bool { return l.Key == m.Key && l.Secret == m.Secret })
	})
	found = append(found, retired...)
	slices.SortStableFunc(found, func(x, y Match) int { return cmp.Or(cmp.Compare(x.Key, y.Key), cmp.Compare(x.Secret, y.Secret)) })
	return found, unread, nil
}

// guess is what a text can be a value by.
type guess struct {
	text string
	// digests are by the type of a secret. So are tokens, which are the ids of the keys
	// that the text names, for the types for which it is a token.
	digests map[string][]secret.Digest
	tokens  map[string]string
}

func (t *Tripwire) guessOf(text string) guess {
	g := guess{text, map[string][]secret.Digest{}, map[string]string{}}
	for name, of := range t.ports.Types {
		g.digests[name] = of.Guesses(text)
		if signs, ok := of.(secret.Tokens); ok {
			if id, isToken := signs.NamedKey(text); isToken {
				g.tokens[name] = id
			}
		}
	}
	return g
}

// is reports whether a value of that type has one of the digests of the guess.
func (t *Tripwire) is(g guess, typeName string, digests []secret.Digest) bool {
	same := 0
	for _, guessed := range g.digests[typeName] {
		for _, digest := range digests {
			same |= t.equal(guessed, digest)
		}
	}
	return same == 1
}

// staged is a value that a role has.
type staged struct {
	Match
	material rotation.Material
	digests  []secret.Digest
}

// findLive goes through the values that a role has.
func (t *Tripwire) findLive(r *rotation.Role, g guess) []Match {
	var found []Match
	for _, v := range t.valuesOf(r) {
		if _, isToken := g.tokens[v.Type]; isToken && t.ports.Types[v.Type].(secret.Tokens).Signed(v.material, g.text) {
			v.Token = true
		}
		if t.is(g, v.Type, v.digests) || v.Token {
			found = append(found, v.Match)
		}
	}
	return found
}

// valuesOf lists the values that a role has, with what they are recognized by. That is
// worked out once for each state.
func (t *Tripwire) valuesOf(r *rotation.Role) []staged {
	s := r.Snapshot()
	return s.Memo("digests", func() any {
		var all []staged
		for _, name := range s.Names() {
			of := s.Secrets[name]
			for _, at := range []struct {
				stage string
				value *rotation.Value
			}{{secret.StageCurrent, of.Current}, {secret.StagePrevious, of.Previous}, {StagePending, of.Undecided()}, {StageNext, of.Next}} {
				if at.value == nil {
					continue
				}
				digests, err := t.ports.Types[of.Type].Digests(at.value.Material)
				if err != nil {
					t.ports.Log().Warn("a value is damaged, and is not recognized", "subject", r.Key, "secret", name, "stage", at.stage, "error", err)
					continue
				}
				m := Match{Key: r.Key, Role: r, Secret: name, Type: of.Type, Stage: at.stage, Version: at.value.Version}
				if at.value.Held() {
					m.Stage = StageRetired
				}
				all = append(all, staged{m, at.value.Material, digests})
			}
		}
		return all
	}).([]staged)
}

// findRetired goes through the retired values of all roles, also of those that were
// deleted.
func (t *Tripwire) findRetired(ctx context.Context, g guess, live map[string]*rotation.Role) ([]Match, error) {
	retention, err := t.ports.Retention(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := t.stored(ctx)
	if err != nil {
		return nil, err
	}
	var found []Match
	for _, key := range keys {
		values, err := t.valuesKept(ctx, Prefix+key)
		if err != nil {
			return nil, err
		}
		for _, v := range values {
			same := t.is(g, v.Type, v.Digests)
			named := v.KeyID != "" && v.KeyID == g.tokens[v.Type]
			if (same || named) && !v.expired(t.ports.Now(), retention) {
				found = append(found, Match{Key: key, Role: live[key], Secret: v.Secret, Type: v.Type, Stage: StageRetired, Version: v.Version, Token: named})
			}
		}
	}
	return found, nil
}

// valuesKept reads what is kept of a role. It waits for no write, of which one may hang:
// pages are written before the entry that names them, and deleted after it.
func (t *Tripwire) valuesKept(ctx context.Context, key string) ([]value, error) {
	e, err := t.read(ctx, key)
	if err != nil {
		return nil, err
	}
	return t.values(ctx, key, e)
}

// Exposed is what has to be rotated because it is known to others.
type Exposed struct {
	Role *rotation.Role
	// Secrets are those whose value is known, each once, and Stages the stages of those
	// values, each once.
	Secrets, Stages []string
}

// ExposedBy lists, for each role, the secrets of which something that is not retired was
// found. A token exposes no key: whoever has one could otherwise have all tokens refused.
func ExposedBy(found []Match) []Exposed {
	var all []Exposed
	for _, m := range found {
		if m.Stage == StageRetired || m.Token {
			continue
		}
		if len(all) == 0 || all[len(all)-1].Role != m.Role {
			all = append(all, Exposed{Role: m.Role})
		}
		last := &all[len(all)-1]
		last.Secrets, last.Stages = appendOnce(last.Secrets, m.Secret), appendOnce(last.Stages, m.Stage)
	}
	return all
}

func appendOnce(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}
