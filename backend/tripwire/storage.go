package tripwire

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
)

// read returns the entry of a role. Of a damaged one the pages stay; they are those that
// are stored. Its uses are lost, and further ones have to have higher numbers.
func (t *Tripwire) read(ctx context.Context, key string) (*entry, error) {
	e, err := t.decode(ctx, key)
	if err != nil || !e.damaged {
		return e, err
	}
	e.Uses = int(t.ports.Now().Unix())
	names, err := t.ports.Store.List(ctx, key+"/")
	slices.Sort(names)
	for _, name := range names {
		number, noPage := strconv.Atoi(name)
		var content *entry
		if noPage == nil && err == nil {
			content, err = t.decode(ctx, pageKey(key, number))
		}
		if content != nil && len(content.Values) > 0 {
			e.Pages = append(e.Pages, content.page(number))
		}
	}
	return e, err
}

// decode returns the entry or the page under a key. What is damaged counts as empty, because
// no value could be retired any more otherwise.
func (t *Tripwire) decode(ctx context.Context, key string) (*entry, error) {
	raw, err := t.ports.Store.ReadRaw(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	e := &entry{}
	if raw != nil {
		if err := json.Unmarshal(raw, e); err != nil {
			t.ports.Log().Error("what is kept of retired values is damaged, and is left out", "entry", key, "error", err)
			e = &entry{damaged: true}
		}
	}
	for _, all := range []*[]value{&e.Values, &e.Used} {
		*all = slices.DeleteFunc(*all, func(v value) bool { return len(v.Digests) == 0 })
	}
	return e, nil
}

// values are all that are kept of a role whose entry is e, the longest retired first.
func (t *Tripwire) values(ctx context.Context, key string, e *entry) ([]value, error) {
	var all []value
	for _, p := range e.Pages {
		content, err := t.decode(ctx, pageKey(key, p.Number))
		if err != nil {
			return nil, err
		}
		all = append(all, content.Values...)
	}
	all = append(all, e.Values...)
	// One that is added again may also be in a page.
	latest := map[mark]int{}
	for i, v := range all {
		latest[v.identity()] = i
	}
	for _, v := range e.Used {
		if i, ok := latest[v.identity()]; ok {
			all[i].Use = v.Use
		}
	}
	kept := all[:0]
	for i, v := range all {
		if latest[v.identity()] == i {
			kept = append(kept, v)
		}
	}
	return kept, nil
}

// pageKey is where a page is stored whose entry has that key.
func pageKey(key string, number int) string { return fmt.Sprintf("%s/%08d", key, number) }

// change stores the entry of a role as edit has changed it.
func (t *Tripwire) change(ctx context.Context, k *kept, edit func(*entry) error) error {
	retention, err := t.ports.Retention(ctx)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now, err := t.read(ctx, k.key)
	if err != nil {
		return err
	}
	next := now.clone()
	if err := edit(next); err != nil {
		return err
	}
	latest, all := slices.Clone(next.Values), next.count()
	pages := next.spill()
	next.expire(t.ports.Now(), retention)
	// An earlier write may have landed although it failed: then nothing is left to store.
	if now.damaged || !reflect.DeepEqual(now, next) {
		if err := t.store(ctx, k.key, next, pages); err != nil {
			k.unsure = true
			return fmt.Errorf("write %s: %w", k.key, err)
		}
	}
	k.learned(latest, next.lastUse(), k.unsure || now.damaged || next.count() < all)
	k.unsure = false
	for _, p := range now.Pages {
		if !slices.Contains(next.Pages, p) {
			_ = t.ports.Store.Delete(ctx, pageKey(k.key, p.Number)) // or with the next sweep
		}
	}
	return nil
}

// store writes an entry after the pages that it names, so that these are there.
func (t *Tripwire) store(ctx context.Context, key string, e *entry, pages map[int]entry) error {
	for _, p := range e.Pages {
		if content, ok := pages[p.Number]; ok {
			if err := t.ports.Store.Write(ctx, pageKey(key, p.Number), content); err != nil {
				return err
			}
		}
	}
	if len(e.Values) == 0 && len(e.Pages) == 0 && e.Uses == 0 {
		return t.ports.Store.Delete(ctx, key)
	}
	return t.ports.Store.Write(ctx, key, e)
}
