package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/notify"
)

// The paths of outside.
const (
	told    = "/told"
	refuses = "/refuses"
)

// outside is what the engine sends to: a receiver of events, and an application that
// refuses every key.
type outside struct {
	*httptest.Server
	mu sync.Mutex
	// events are those of uses of retired values by id, and keys what was refused.
	events map[string]notify.Event
	keys   map[string]bool
}

func newOutside(t *testing.T) *outside {
	o := &outside{events: map[string]notify.Event{}, keys: map[string]bool{}}
	handler := http.NewServeMux()
	handler.HandleFunc(told, func(_ http.ResponseWriter, r *http.Request) {
		var e notify.Event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Errorf("what was told is no event: %v", err)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.events[e.ID] = e
	})
	handler.HandleFunc(refuses, func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.keys[r.Header.Get("X-API-Key")] = true
		w.WriteHeader(http.StatusUnauthorized)
	})
	o.Server = httptest.NewServer(handler)
	t.Cleanup(o.Close)
	return o
}

// wasAsked reports whether the application was asked to refuse a key.
func (o *outside) wasAsked(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.keys[key]
}

// uses lists the events of uses of an app's retired keys.
func (o *outside) uses(id string) (uses []notify.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.events {
		if e.Role == id && strings.Contains(e.Message, "retired value of secret "+id+"_api,") {
			uses = append(uses, e)
		}
	}
	return uses
}

// checkRetired presents what readers were given before and after the fault: what is current
// or previous is valid, and everything else is recognized as retired. Each retired key is
// one event, which names who has presented it. What changes meanwhile is presented again:
// an operation whose intent was stored with an error is recovered when somebody looks. So
// is all of it if the cluster was without an active node meanwhile, as it is on a machine
// with too much to do: a node notes a use in memory, and stores it a moment later.
func (c *cell) checkRetired(ctx context.Context) error {
	counted := map[string]bool{}
	for {
		since, err := c.app.activeSince(ctx)
		if err != nil {
			return err
		}
		now, err := c.app.values(ctx)
		if err != nil {
			return err
		}
		wrong := c.presentAll(ctx, now, counted)
		answered := wrong == nil
		if answered {
			if wrong = c.app.checkTold(ctx); wrong == nil {
				return nil
			}
		}
		later, err := c.app.values(ctx)
		if err != nil {
			return errors.Join(wrong, err)
		}
		still, err := c.app.activeSince(ctx)
		if err != nil || still.Equal(since) && (answered || later == now) {
			return errors.Join(wrong, err)
		}
	}
}

// presentAll presents everything once, and counts the retired keys that were not counted.
func (c *cell) presentAll(ctx context.Context, now values, counted map[string]bool) error {
	stages := map[string]string{now.apiKey: "current", now.apiPrevious: "previous"}
	presented := map[string]bool{"": true}
	for _, key := range []string{now.apiKey, now.apiPrevious, c.before.apiKey, c.before.apiPrevious, c.previous.apiPrevious} {
		if presented[key] {
			continue
		}
		presented[key] = true
		if err := c.app.present(ctx, "api-key/$/$_api/verify", "key", key, stages[key]); err != nil {
			return err
		}
		if stages[key] == "" && !counted[key] {
			counted[key] = true
			c.app.presented++
		}
	}
	stages = map[string]string{now.jwtKey: "current", now.jwtPrevious: "previous"}
	for _, v := range []values{now, c.before, c.before.previousKey(), c.previous} {
		if v.jwtKey == "" {
			continue
		}
		token, err := v.token()
		if err != nil {
			return err
		}
		if err := c.app.present(ctx, "jwt/$/$_jwt/verify", "token", token, stages[v.jwtKey]); err != nil {
			return err
		}
	}
	return nil
}

// present presents a value, which has that stage; none if it is retired.
func (a *app) present(ctx context.Context, path, field, value, stage string) error {
	answer, err := a.write(ctx, a.expand(path), map[string]any{field: value})
	if err != nil {
		return err
	}
	reason := ""
	if stage == "" {
		reason = "retired"
	}
	if answer["stage"] != stage || answer["valid"] != (stage != "") || answer["reason"] != reason {
		return fmt.Errorf("%s: a value of stage %q is answered with valid=%v, stage=%v, reason=%v, error=%v",
			a.expand(path), stage, answer["valid"], answer["stage"], answer["reason"], answer["error"])
	}
	return nil
}

// checkTold waits for one event of each retired key that was presented.
func (a *app) checkTold(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return testenv.Eventually(ctx, "the events of uses of retired keys", func(context.Context) error {
		uses := a.outside.uses(a.id)
		for _, e := range uses {
			if !strings.Contains(e.Message, "root asked to verify it, from 127.0.0.1") {
				return errors.New("an event does not name who has presented a key: " + e.Message)
			}
		}
		if len(uses) != a.presented {
			return fmt.Errorf("there are %d, of %d", len(uses), a.presented)
		}
		return nil
	})
}

// previousKey is a reader that signs with the previous key.
func (v values) previousKey() values { return values{jwtKey: v.jwtPrevious, jwtKID: v.jwtPreviousKID} }
