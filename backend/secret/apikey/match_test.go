package apikey

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/internal/expect"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// keyring is a secret with a current key and a previous one that is valid for an
// hour.
func keyring(t testing.TB, config string) (s rotation.Secret, now time.Time) {
	t.Helper()
	s = rotation.Secret{Name: "s", Type: "api_key", Config: []byte(config)}
	now = time.Now()
	make := func() *rotation.Value {
		m, err := driver{}.Create(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return &rotation.Value{Material: m, RetireTime: now.Add(time.Hour)}
	}
	s.Current, s.Previous = make(), make()
	return s, now
}

func TestMatch(t *testing.T) {
	s, now := keyring(t, `{"prefix":"orders"}`)
	current, previous := s.Current.Material["key"], s.Previous.Material["key"]
	for name, test := range map[string]struct {
		key   string
		later time.Duration
		want  *rotation.Value
		err   error
	}{
		"current":              {key: current, want: s.Current},
		"current later":        {key: current, later: 2 * time.Hour, want: s.Current},
		"previous":             {key: previous, want: s.Previous},
		"previous at its end":  {key: previous, later: time.Hour, err: errUnknownKey},
		"cut off":              {key: current[:len(current)-1], err: errMistyped},
		"longer":               {key: current + "x", err: errMistyped},
		"prefix only":          {key: "orders_", err: errMistyped},
		"other prefix":         {key: "shop" + strings.TrimPrefix(current, "orders"), err: errUnknownKey},
		"well formed, unknown": {key: "orders_abc" + checksum("orders_abc"), err: errUnknownKey},
		"something else":       {key: "hunter2", err: errUnknownKey},
		"empty":                {key: "", err: errUnknownKey},
	} {
		got, err := Match(s, test.key, now.Add(test.later))
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: got %p, %v", name, got, err)
		}
		if err != nil && test.key != "" && strings.Contains(err.Error(), test.key) {
			t.Errorf("%s: the error repeats the key", name)
		}
	}
}

// TestMatchImported is about keys of others, which may look like ours.
func TestMatchImported(t *testing.T) {
	s, now := keyring(t, `{"prefix":"sk"}`)
	m, err := driver{}.Import(s, "sk_0123456789abcdefghijklmnopqrstuvwxyz")
	expect.OK(t, err)
	s.Previous.Material = m
	if got, err := Match(s, m["key"], now); got != s.Previous || err != nil {
		t.Errorf("the imported key: %v, %v", got, err)
	}
	if got, err := Match(s, "sk_0123456789", now); got != nil || !errors.Is(err, errUnknownKey) {
		t.Errorf("another key: %v, %v", got, err)
	}
	s.Previous = nil
	if _, err := Match(s, m["key"], now); !errors.Is(err, errMistyped) {
		t.Errorf("the imported key when it is gone: %v", err)
	}
	s.Current = nil
	if got, err := Match(s, "", now); got != nil || err == nil {
		t.Errorf("a secret without a value accepts %v", got)
	}
}

// FuzzMatch presents anything: only the keys themselves are accepted, and
// nothing is repeated.
func FuzzMatch(f *testing.F) {
	s, now := keyring(f, `{}`)
	current, previous := s.Current.Material["key"], s.Previous.Material["key"]
	for _, seed := range []string{
		"", "_", "smvm_", "smvm", "smvm__", "SMVM_abc000000", "smvm_" + strings.Repeat("0", 49), "smvm_\x00\xff", "smvm_é",
		"ghp_0123456789abcdefghijABCDEFGHIJ012345", "smvm_abc" + checksum("smvm_abc"), strings.Repeat("smvm_", 1000),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		for _, presented := range []string{key, current + key, key + previous} {
			got, err := Match(s, presented, now)
			accepted := presented == current || presented == previous
			if accepted != (got != nil) || accepted != (err == nil) {
				t.Errorf("%q: %v, %v", presented, got, err)
			}
			if err != nil && !errors.Is(err, errMistyped) && !errors.Is(err, errUnknownKey) {
				t.Errorf("%q is answered %v", presented, err)
			}
		}
	})
}

// TestMatchHashed presents keys of which only the hash is kept.
func TestMatchHashed(t *testing.T) {
	s, now := keyring(t, `{"hash_only":true}`)
	key := s.Current.Material["key"]
	s.Current.Material = driver{}.Conceal(s.Current.Material)
	m, err := driver{}.Import(s, "sk-0123456789abcdef")
	expect.OK(t, err)
	s.Previous.Material = m
	for presented, want := range map[string]*rotation.Value{
		key: s.Current, "sk-0123456789abcdef": s.Previous, s.Current.Material["sha256"]: nil, "": nil, key + "x": nil,
	} {
		if got, err := Match(s, presented, now); got != want || (err == nil) != (want != nil) {
			t.Errorf("got %p, %v", got, err)
		}
	}
	fields, err := driver{}.Fields(s, m)
	expect.OK(t, err)
	if len(m["key"]) > 0 || fields["key_sha256"] != m["sha256"] || len(fields) != 1 {
		t.Errorf("creds answers %d fields", len(fields))
	}
	expect.OK(t, driver{}.Test(t.Context(), s, m))
	for _, damaged := range []string{"00", "zz", strings.Repeat("0", 66)} {
		s.Current.Material = rotation.Material{"sha256": damaged}
		expect.Refused(t, driver{}.Test(t.Context(), s, s.Current.Material))
		if got, _ := Match(s, "", now); got != nil {
			t.Error("a damaged hash accepts a key")
		}
	}
}

func TestHashOnlyStays(t *testing.T) {
	err := driver{}.ValidateUpdate([]byte(`{"hash_only":true}`), []byte(`{}`))
	expect.Invalid(t, err, "hash_only", "cannot be changed")
	expect.OK(t, driver{}.ValidateUpdate([]byte(`{"hash_only":true}`), []byte(`{"hash_only":true,"length":50}`)))
}
