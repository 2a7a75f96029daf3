package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/testenv"
)

// fewRoles is how many roles there are in another world, which does not grow, and
// is measured beside the one that does.
const fewRoles = 10

// sizes are the numbers of roles at which the plugin is looked at, as parts of all.
var sizes = []int{10, 4, 2, 1}

// measureGrowth fills the mount, and compares what things cost then.
func measureGrowth(ctx context.Context, w *world, s settings) (rows []row, err error) {
	say("growth to %d roles", s.roles)
	small, err := newWorld(ctx)
	defer func() { err = errors.Join(err, small.stop(context.WithoutCancel(ctx))) }()
	if err != nil {
		return nil, err
	}
	if err := small.createUsers(ctx, "few", fewRoles); err != nil {
		return nil, err
	}
	if err := small.fill(ctx, "few", 0, fewRoles, true); err != nil {
		return nil, err
	}
	empty, err := small.restarts(ctx, s.rounds, ours+"/creds/few0", 0)
	if err != nil {
		return nil, err
	}
	memory, err := w.grow(ctx, s.roles)
	if err != nil {
		return nil, err
	}
	full, err := w.restarts(ctx, s.rounds, ours+"/creds/many0", s.roles)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(w.warmUp(ctx, "many", s.roles), small.warmUp(ctx, "few", fewRoles)); err != nil {
		return nil, err
	}
	read, err := w.atRest(ctx)
	if err != nil {
		return nil, err
	}
	found, err := w.compare(ctx, s.rounds,
		small.readingOf("few", fewRoles), w.readingOf("many", s.roles),
		w.rotating("many", s.roles), small.rotating("few", fewRoles))
	if err != nil {
		return nil, err
	}
	busy, err := w.resident()
	if err != nil {
		return nil, err
	}
	first, last := memory[0], memory[len(memory)-1]
	perRole := (last.bytes - first.bytes) / float64(last.roles-first.roles)
	return []row{
		atMost(fmt.Sprintf("%d roles, restart", s.roles), fmt.Sprintf("time from unseal to the first response of `creds`, compared with a mount with %d roles", fewRoles), 1.2, full.served, empty.served, "ms"),
		below("", "time from unseal until all schedules are loaded", 5, middle(full.loaded.values)/1000, "s"),
		{
			work: fmt.Sprintf("%d roles, three secrets each", s.roles), measure: "resident memory of the plugin, all roles loaded",
			reach: "< 250 MB", value: fmt.Sprintf("%.0f MB", last.bytes/1e6), reached: last.bytes < 250e6,
			seen: fmt.Sprintf("%.1f kB per role (%s); %.0f MB after each role was read once, %.0f MB under load", perRole/1e3, describe(memory), read/1e6, busy/1e6),
		},
		atMost(fmt.Sprintf("%d roles, compared with %d in another Vault", s.roles, fewRoles), fmt.Sprintf("how many times as many reads per second with %d roles as with %d", fewRoles, s.roles), 1.15, found[0], found[1], "per second"),
		atMost("", "duration of a rotation", 1.15, found[2], found[3], "ms"),
	}, nil
}

// warmUp reads every role once, and rotates those that will be: the first time after
// a start costs more.
func (w *world) warmUp(ctx context.Context, name string, roles int) error {
	err := parallel(0, roles, func(i int) error { return w.get(ctx, fmt.Sprintf("%s/creds/%s%d", ours, name, i)) })
	if err != nil {
		return err
	}
	rotate := w.rotation(name, roles)
	for range min(roles, sample) {
		if err := rotate(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

// use is how much memory the plugin has with so many roles.
type use struct {
	roles int
	bytes float64
}

func describe(memory []use) string {
	described := make([]string, len(memory))
	for i, u := range memory {
		described[i] = fmt.Sprintf("%.0f MB with %d roles", u.bytes/1e6, u.roles)
	}
	return strings.Join(described, ", ")
}

// grow fills the mount, and looks at the plugin's memory on the way, each time
// after a restart, so that what the filling itself used does not count.
func (w *world) grow(ctx context.Context, roles int) ([]use, error) {
	if err := w.createUsers(ctx, "many", roles); err != nil {
		return nil, err
	}
	var memory []use
	from := 0
	for _, part := range sizes {
		to := roles / part
		if err := w.fill(ctx, "many", from, to, true); err != nil {
			return nil, err
		}
		from = to
		if _, err := w.restarts(ctx, 1, ours+"/creds/many0", to); err != nil {
			return nil, err
		}
		bytes, err := w.atRest(ctx)
		if err != nil {
			return nil, err
		}
		say("%d roles: %.0f MB", to, bytes/1e6)
		memory = append(memory, use{to, bytes})
	}
	return memory, nil
}

// restTime is a little longer than the plugin takes to give back what it used.
const restTime = 15 * time.Second

// atRest returns the resident memory of the plugin when it has had little to do for
// a while.
func (w *world) atRest(ctx context.Context) (float64, error) {
	if err := pauseFor(ctx, restTime); err != nil {
		return 0, err
	}
	return w.resident()
}

// resident returns the resident memory of the plugin.
func (w *world) resident() (float64, error) {
	for _, pid := range w.vault.PluginPIDs() {
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if !bytes.Contains(command, []byte(testenv.PluginName)) {
			continue
		}
		statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		var size, pages int
		if err == nil {
			_, err = fmt.Sscan(string(statm), &size, &pages)
		}
		return float64(pages * os.Getpagesize()), err
	}
	return 0, errors.New("the plugin does not run")
}

// restarted is how long restarts took, in milliseconds: until creds were served,
// and until all roles had their schedules.
type restarted struct{ served, loaded series }

// restarts seals and unseals Vault, and asks for creds until they come.
func (w *world) restarts(ctx context.Context, count int, path string, roles int) (r restarted, err error) {
	for range count {
		if err := w.vault.Seal(ctx); err != nil {
			return r, err
		}
		began := time.Now()
		if _, err := w.vault.Client.Sys().UnsealWithContext(ctx, w.vault.UnsealKey); err != nil {
			return r, fmt.Errorf("unseal: %w", err)
		}
		if err := w.until(ctx, "creds", func() error { return w.get(ctx, path) }); err != nil {
			return r, err
		}
		r.served.values = append(r.served.values, milliseconds(time.Since(began)))
		if err := w.until(ctx, "schedules", func() error { return w.scheduled(ctx, roles) }); err != nil {
			return r, err
		}
		r.loaded.values = append(r.loaded.values, milliseconds(time.Since(began)))
		say("restart with %d roles: creds after %s ms, all schedules after %s ms", roles, brief(r.served.values[len(r.served.values)-1]), brief(r.loaded.values[len(r.loaded.values)-1]))
	}
	return r, nil
}

// until tries again every few milliseconds.
func (w *world) until(ctx context.Context, what string, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last: %w)", what, ctx.Err(), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

var loadedRoles = regexp.MustCompile(`(?m)^smvm_subjects\{subject="role"\} (\d+)$`)

// scheduled returns an error until the mount's plans are those of so many roles.
func (w *world) scheduled(ctx context.Context, roles int) error {
	text, err := w.send(ctx, http.MethodGet, ours+"/metrics", nil)
	if err != nil {
		return err
	}
	loaded := 0
	if found := loadedRoles.FindSubmatch(text); found != nil {
		loaded, err = strconv.Atoi(string(found[1]))
	}
	if loaded < roles {
		err = fmt.Errorf("%d of %d roles are loaded", loaded, roles)
	}
	return err
}

// readingOf is the figure of reads spread over all roles.
func (w *world) readingOf(name string, roles int) figure {
	counts := make([]int, clients)
	f := rateOf(fmt.Sprintf("read of one of %d roles", roles), func(ctx context.Context, worker int) error {
		counts[worker]++
		role := (counts[worker]*clients + worker) * 7919 % roles
		return w.get(ctx, fmt.Sprintf("%s/creds/%s%d", ours, name, role))
	})
	f.of = w
	return f
}

// sample is how many roles are rotated: some from everywhere.
const sample = 100

// rotation is the work of rotating one role after the other of the sample.
func (w *world) rotation(name string, roles int) work {
	count, sampled := 0, min(roles, sample)
	return func(ctx context.Context, _ int) error {
		count++
		return w.post(ctx, fmt.Sprintf("%s/rotate/%s%d", ours, name, count%sampled*(roles/sampled)), nil)
	}
}

// rotating is the figure of that, one at a time.
func (w *world) rotating(name string, roles int) figure {
	f := durationOf(fmt.Sprintf("rotation of one of %d roles", roles), singles, w.rotation(name, roles))
	f.of = w
	return f
}
