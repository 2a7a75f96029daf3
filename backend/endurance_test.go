package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/roles"
)

// TestEndurance signs without a pause, with the longest life that tokens may have,
// and verifies all of them all the time: through a client that keeps the key set
// for as long as it is told, and asks for it at no other time, and at the engine.
// Over 50 rotations, by schedule and by hand in turn, and 10 rollbacks, no good token is refused, and none
// is accepted whose key is retired: for that there are tokens that an application
// has signed with the exported key and that would live for ever.
func TestEndurance(t *testing.T) {
	const rotations, rollbacks, step = 50, 10, 3 * time.Second
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "60s", "overlap", "20s", "refresh_interval", "5s"))
	m.write("secrets/r/jwt", d("type", "jwt", "algorithm", "EdDSA", "max_ttl", "20s", "exportable", true))
	run := &endurance{mount: m, client: &caching{mount: m}, live: map[string]time.Time{}, eternal: map[string]string{}, judged: map[string]int{}}
	for run.rotated < rotations || run.rolledBack < rollbacks {
		run.issue()
		run.judge()
		m.tick(step)
		run.settle()
		if run.rotated > rotations+rollbacks {
			t.Fatal("there are more rotations than planned")
		}
	}
	t.Logf("%d rotations, %d of them by hand, %d rollbacks: %d tokens signed, %d verifications by the client with %d key sets read, %d by the engine, of them %d of tokens of retired keys; %d good ones refused, %d of retired keys accepted",
		run.rotated, run.byHand, run.rolledBack, run.signed, run.client.verified, run.client.fetched, run.verified, run.retired, run.refusedGood, run.acceptedStale)
	if run.refusedGood > 0 || run.acceptedStale > 0 || run.retired == 0 || run.rolledBack != rollbacks {
		t.Error("tokens were judged wrongly, or not at all")
	}
}

// endurance is what is going on, and how often.
type endurance struct {
	*mount
	client *caching
	// live are the tokens signed here, until they expire.
	live map[string]time.Time
	// eternal are tokens signed with the exported key, by kid, and judged is how
	// often each was after its key was retired: in the minute after that.
	eternal map[string]string
	judged  map[string]int
	version int

	rotated, byHand, rolledBack, signed, verified, retired, refusedGood, acceptedStale int
}

// ask sends a request past the checks and the transcript of other tests.
func (m *mount) ask(op logical.Operation, path string, data map[string]any) map[string]any {
	m.Helper()
	req := &logical.Request{Operation: op, Path: path, Data: data, Storage: m.storage, MountPoint: "smvm/"}
	return m.must(m.b.HandleRequest(context.Background(), req))
}

// issue has a token signed, and signs one with each new key that lives for ever.
func (e *endurance) issue() {
	e.Helper()
	answer := e.ask(logical.UpdateOperation, sign, d("claims", map[string]any{"sub": "orders"}))
	expires, err := time.Parse(time.RFC3339, answer["expires"].(string))
	if err != nil || !expires.Equal(e.clock.now().Add(20*time.Second)) {
		e.Fatalf("the token expires at %v: %v", answer["expires"], err)
	}
	e.live[answer["token"].(string)] = expires
	e.signed++
	if kid := answer["kid"].(string); e.eternal[kid] == "" {
		e.eternal[kid] = e.exported(kid)
	}
}

// exported signs as an application does that has the private key.
func (e *endurance) exported(kid string) string {
	e.Helper()
	creds := e.ask(logical.ReadOperation, "creds/r/jwt", nil)
	key, err := jwt.ParseEdPrivateKeyFromPEM([]byte(creds["private_key"].(string)))
	if err != nil {
		e.Fatal(err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"exp": 4102444800})
	token.Header["kid"] = kid
	signed, err := token.SignedString(key)
	if err != nil {
		e.Fatal(err)
	}
	return signed
}

// judge has every token verified by both, and compares.
func (e *endurance) judge() {
	e.Helper()
	now := e.clock.now()
	for token, expires := range e.live {
		if !now.Before(expires) {
			delete(e.live, token)
			continue
		}
		e.both(token, true)
	}
	s := e.stored("r").Secrets["jwt"]
	good := map[string]bool{s.Current.Material["kid"]: true}
	if previous := s.PreviousAt(now); previous != nil {
		good[previous.Material["kid"]] = true
	}
	for kid, token := range e.eternal {
		if good[kid] || e.judged[kid] < 30 {
			e.both(token, good[kid])
		}
		if !good[kid] && e.judged[kid] < 30 {
			e.judged[kid]++
			e.retired++
		}
	}
}

func (e *endurance) both(token string, good bool) {
	e.Helper()
	byEngine := e.ask(logical.UpdateOperation, verify, d("token", token))["valid"] == true
	e.verified++
	byClient := e.client.accepts(token)
	if good && (!byEngine || !byClient) {
		e.refusedGood++
		e.Errorf("after %d rotations a good token is accepted by the engine: %v, by the client: %v", e.rotated, byEngine, byClient)
	}
	if !good && (byEngine || byClient) {
		e.acceptedStale++
		e.Errorf("after %d rotations a token of a retired key is accepted by the engine: %v, by the client: %v", e.rotated, byEngine, byClient)
	}
}

// settle waits until all that is due has been done, and rolls every fifth rotation
// back, at a different moment of its overlap each time.
func (e *endurance) settle() {
	e.Helper()
	r, err := e.b.registry.Get(e.Context(), roles.Prefix, "r")
	if err != nil {
		e.Fatal(err)
	}
	e.eventually("what is due", func() bool {
		next := r.Snapshot().NextAction(e.clock.now())
		return !r.Busy() && (next.Kind == "" || next.At.After(e.clock.now()))
	})
	s := r.Snapshot()
	if s.Version != e.version {
		e.rotated += s.Version - max(e.version, 1)
		e.version = s.Version
	}
	since, overlaps := e.clock.now().Sub(s.LastRotation), s.Secrets["jwt"].Previous != nil
	if e.rotated%2 == 1 && !overlaps && since >= 30*time.Second {
		e.ask(logical.UpdateOperation, "rotate/r", d("wait", "20s"))
		e.rotated, e.version, e.byHand = e.rotated+1, r.Snapshot().Version, e.byHand+1
		return
	}
	if e.rotated == 5*(e.rolledBack+1) && overlaps && since >= time.Duration(e.rolledBack)*2*time.Second%(18*time.Second) {
		e.ask(logical.UpdateOperation, "rollback/r", d("wait", "20s"))
		e.rolledBack++
		e.version = r.Snapshot().Version
	}
}

// caching is a verifier that keeps the key set for as long as it is told, and never
// reads it again before, not even for a key that it does not know.
type caching struct {
	*mount
	set               jose.JSONWebKeySet
	until             time.Time
	fetched, verified int
}

func (c *caching) accepts(token string) bool {
	c.Helper()
	now := c.clock.now()
	if !now.Before(c.until) {
		c.fetch(now)
	}
	c.verified++
	parsed, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		c.Fatal(err)
	}
	for _, key := range c.set.Key(parsed.Signatures[0].Header.KeyID) {
		if _, err := parsed.Verify(key); err == nil {
			return true
		}
	}
	return false
}

func (c *caching) fetch(now time.Time) {
	c.Helper()
	data := c.ask(logical.ReadOperation, keys, nil)
	c.set = jose.JSONWebKeySet{}
	if err := json.Unmarshal(data[logical.HTTPRawBody].([]byte), &c.set); err != nil {
		c.Fatal(err)
	}
	var fresh int
	if _, err := fmt.Sscanf(data[logical.HTTPCacheControlHeader].(string), "public, max-age=%d", &fresh); err != nil {
		c.Fatal(err)
	}
	c.until = now.Add(time.Duration(fresh) * time.Second)
	c.fetched++
}
