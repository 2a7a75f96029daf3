package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// watch is all that the API server tells of one object: a state for each change.
type watch struct {
	name string

	mu     sync.Mutex
	states []state
	ended  error
}

// state is what an object is from some time on. Revisions count all changes in the
// cluster; a generation is one change of what is wanted of the object.
type state struct {
	at         time.Time
	revision   int
	generation int
	data       map[string]string
}

// event is what kubectl prints of a change.
type event struct {
	Type   string
	Object struct {
		Metadata struct {
			Generation      int
			ResourceVersion string
		}
		Data map[string][]byte
	}
}

// watch begins to watch an object, which need not exist yet, until the cluster stops.
func (c *cluster) watch(ctx context.Context, resource, name string) (*watch, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, c.Kubectl, "get", resource, "--namespace=orders", "--field-selector=metadata.name="+name,
		"--watch", "--output=json", "--output-watch-events")
	cmd.Env = c.env()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch %s: %w", name, err)
	}
	w := &watch{name: name}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.follow(out)
		_ = cmd.Wait() // it was killed
	}()
	c.unwatch = append(c.unwatch, func() { cancel(); <-done })
	return w, nil
}

// follow takes in events until there are no more.
func (w *watch) follow(out io.Reader) {
	events := json.NewDecoder(out)
	for {
		var e event
		err := events.Decode(&e)
		revision, notNumber := strconv.Atoi(e.Object.Metadata.ResourceVersion)
		w.mu.Lock()
		switch {
		case err != nil || notNumber != nil:
			w.ended = fmt.Errorf("watch %s: it has ended: %w", w.name, errors.Join(err, notNumber))
		case e.Type == "ADDED" || e.Type == "MODIFIED":
			data := map[string]string{}
			for name, value := range e.Object.Data {
				data[name] = string(value)
			}
			w.states = append(w.states, state{at: time.Now(), revision: revision, generation: e.Object.Metadata.Generation, data: data})
		}
		ended := w.ended
		w.mu.Unlock()
		if ended != nil {
			return
		}
	}
}

// last is what the object is now, as far as is known, and how many states it has had;
// none if it does not exist.
func (w *watch) last() (state, int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.states) == 0 {
		return state{}, 0, w.ended
	}
	return w.states[len(w.states)-1], len(w.states), w.ended
}

// await waits until the object has exactly that data.
func (w *watch) await(ctx context.Context, want map[string]string, timeout time.Duration) (found state, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = testenv.Eventually(ctx, "the data of "+w.name, func(context.Context) error {
		now, states, err := w.last()
		switch {
		case err != nil:
			return err
		case states == 0:
			return errors.New("it does not exist")
		case !maps.Equal(now.data, want):
			return fmt.Errorf("it differs in %s", strings.Join(differing(now.data, want), ", "))
		}
		found = now
		return nil
	})
	return found, err
}

// differing are the keys that are not the same in both.
func differing(a, b map[string]string) []string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	maps.DeleteFunc(all, func(key, _ string) bool {
		x, inA := a[key]
		y, inB := b[key]
		return inA && inB && x == y
	})
	return slices.Sorted(maps.Keys(all))
}
