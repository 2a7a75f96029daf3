package backend

import (
	"fmt"
	"testing"
	"time"
)

func TestPartialUpdates(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_schedule", "0 3 * * *", "rotation_window", "2h", "overlap", "6h", "refresh_interval", "1m",
		"max_retries", 3, "retry_interval", "20s"))
	want := m.read("roles/r", nil)
	for name, value := range map[string]any{
		"overlap": int64(7200), "refresh_interval": int64(120), "max_retries": 5, "retry_interval": int64(30),
		"overlap_limit": int64(28800), "rotation_window": int64(3600), "auto_rotate": false, "rotation_schedule": "0 4 * * *",
	} {
		m.write("roles/r", d(name, value))
		want[name] = value
		if got := m.read("roles/r", nil); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("after a change of %s, the role is %v, want %v", name, got, want)
		}
	}
	m.write("roles/r", d("rotation_period", "48h"))
	delete(want, "rotation_schedule")
	delete(want, "rotation_window")
	want["rotation_period"] = int64(48 * 3600)
	if got := m.read("roles/r", nil); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("with a period instead of a schedule, the role is %v, want %v", got, want)
	}
}

// TestUpdateRotatesNothing changes the policy of a role long after its last
// rotation: the next one is counted from that, and never due at once.
func TestUpdateRotatesNothing(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", d("rotation_period", "240h"))
	m.write("secrets/r/jwt", d("type", "jwt"))
	anchor := m.clock.now()
	m.clock.advance(100 * time.Hour)
	before := m.read("creds/r", nil)
	for _, change := range []map[string]any{
		d("rotation_period", "168h"), d("rotation_period", "1h"), d("rotation_period", 60), d("rotation_schedule", "* * * * *"),
		d("rotation_schedule", "0 3 * * *"), d("rotation_window", "1h"), d("overlap", "20m"), d("auto_rotate", false), d("auto_rotate", true),
	} {
		m.write("roles/r", change)
		m.write("secrets/r/jwt", d("algorithm", "HS384"))
		after := m.read("creds/r", nil)
		if after["jwt_secret"] != before["jwt_secret"] || after["version"] != before["version"] {
			t.Fatalf("%v rotated the role", change)
		}
		if change["auto_rotate"] != false && !m.next("r").After(m.clock.now()) {
			t.Errorf("%v made a rotation due at %s", change, m.next("r"))
		}
	}
	m.write("roles/r", d("rotation_period", "168h"))
	if at := m.next("r"); at.After(anchor.Add(168*time.Hour)) || at.Before(anchor.Add(167*time.Hour)) {
		t.Errorf("the next rotation is at %s, which does not count from %s", at, anchor)
	}
}

func TestSecretUpdate(t *testing.T) {
	m := newMount(t)
	m.write("roles/r", nil)
	m.write("secrets/r/jwt", d("type", "jwt"))
	m.write("secrets/r/pin", d("type", "random", "length", 40, "charset", "0123456789"))
	m.write("secrets/r/pin", d("length", 50))
	m.write("secrets/r/jwt", d("algorithm", "HS512"))
	read := m.read("secrets/r/pin", nil)
	if fmt.Sprintf("%v %v %v", read["length"], read["charset"], read["type"]) != "50 0123456789 random" {
		t.Errorf("the secret is %v", read)
	}
	if creds := m.read("creds/r", nil); len(creds["pin_value"].(string)) != 40 || creds["jwt_algorithm"] != "HS256" {
		t.Error("a change of the configuration changes the value there is")
	}
	m.write("rotate/r", nil)
	if creds := m.read("creds/r", nil); len(creds["pin_value"].(string)) != 50 || creds["jwt_algorithm"] != "HS512" {
		t.Error("a change of the configuration does not apply to the next value")
	}
}

// TestVersionIsNeverReused deletes and creates in turn.
func TestVersionIsNeverReused(t *testing.T) {
	m := newMount(t)
	seen := map[int]bool{}
	for range 3 {
		m.write("roles/r", nil)
		for range 2 {
			m.write("secrets/r/pin", d("type", "random"))
			for _, step := range []string{"", "rotate/r", "rollback/r"} {
				if step != "" {
					m.write(step, nil)
				}
				version := m.read("creds/r", nil)["version"].(int)
				if seen[version] {
					t.Fatalf("version %d was there before", version)
				}
				seen[version] = true
			}
			m.delete("secrets/r/pin")
			if version := m.read("status/r", nil)["version"].(int); seen[version] {
				t.Fatalf("without the secret it is still version %d", version)
			}
			m.refused("read", "creds/r", nil, "no values")
		}
		m.delete("roles/r")
		m.refused("read", "creds/r", nil, "unknown role")
	}
	history := m.read("history/r", nil)
	if history["chain_valid"] != true || history["count"] != 3*(1+2*4+1) {
		t.Errorf("the history of a deleted role is %v", history)
	}
	ids := m.list("history/r")
	if last := m.read("history/r/"+ids[len(ids)-1], nil); last["kind"] != "delete" {
		t.Errorf("the last entry is %v", last)
	}
	m.boot()
	if again := m.read("history/r", nil); again["head_hash"] != history["head_hash"] {
		t.Error("the history of a deleted role does not survive a restart")
	}
	m.write("roles/r", nil)
	if role := m.read("roles/r", nil); role["rotation_period"] != int64(90*24*3600) || len(role["secrets"].([]string)) != 0 {
		t.Errorf("a new role inherits from a deleted one: %v", role)
	}
}

func TestConfigDefaults(t *testing.T) {
	m := newMount(t)
	m.write("roles/open", nil)
	m.write("roles/own", d("rotation_period", "2h", "overlap", "30m", "refresh_interval", "1m", "max_retries", 1, "retry_interval", "1m"))
	open, own := m.read("roles/open", nil), m.read("roles/own", nil)
	if got := fmt.Sprint(open["rotation_period"], open["overlap"], open["refresh_interval"], open["max_retries"], open["retry_interval"]); got != "7776000 86400 300 8 10" {
		t.Errorf("the defaults are %s", got)
	}
	m.write("config", d("rotation_period", "10h", "overlap", "8h", "refresh_interval", "10m", "max_retries", 4, "retry_interval", "5s"))
	defaults := func() string {
		role := m.read("roles/open", nil)
		return fmt.Sprint(role["rotation_period"], role["overlap"], role["refresh_interval"], role["max_retries"], role["retry_interval"])
	}
	const want = "36000 18000 600 4 5" // an overlap by default is at most half the period
	if got := defaults(); got != want {
		t.Errorf("with the mount configured, the defaults are %s, want %s", got, want)
	}
	if got := m.read("roles/own", nil); fmt.Sprint(got) != fmt.Sprint(own) {
		t.Errorf("the configuration of the mount changes what a role sets itself: %v", got)
	}
	m.boot()
	if got := defaults(); got != want {
		t.Errorf("after a restart, the defaults are %s, want %s", got, want)
	}
	m.write("config", d("environment", "production"))
	if config := m.read("config", nil); config["rotation_period"] != int64(36000) || config["environment"] != "production" {
		t.Errorf("a partial update of the configuration leaves %v", config)
	}
}

func TestDefaultsOfShortPeriods(t *testing.T) {
	m := newMount(t)
	for period, want := range map[int]string{60: "30 15", 3600: "1800 300", 864000: "86400 300"} {
		m.write("roles/r", d("rotation_period", period))
		if role := m.read("roles/r", nil); fmt.Sprint(role["overlap"], role["refresh_interval"]) != want {
			t.Errorf("with a period of %d, the defaults are %v", period, role)
		}
	}
}
