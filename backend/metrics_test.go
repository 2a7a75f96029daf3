package backend

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/metrics"
)

// scrape returns the metrics as text.
func (m *mount) scrape() string {
	m.Helper()
	data := m.read("metrics", nil)
	return string(data[logical.HTTPRawBody].([]byte))
}

// TestMetrics counts what happens, and tells how each role is.
func TestMetrics(t *testing.T) {
	m := newMount(t)
	m.write("roles/default", d("rotation_period", "1h", "overlap", "30m"))
	m.write("secrets/default/jwt", d("type", "jwt"))
	m.write("rotate", nil)
	m.read("creds", nil)
	m.read("creds", d("stage", "previous"))
	text := m.scrape()
	end := m.clock.now().Add(30 * time.Minute).Unix()
	for _, line := range []string{
		`smvm_operations_total{kind="rotate",outcome="completed",trigger="manual"} 1`,
		`smvm_operations_total{kind="create",outcome="completed",trigger="manual"} 1`,
		`smvm_step_duration_seconds_count{step="test",type="jwt"} 2`,
		`smvm_creds_reads_total{stage="current"} 1`,
		`smvm_creds_reads_total{stage="previous"} 1`,
		`smvm_subjects{subject="role"} 1`,
		`smvm_subjects{subject="connection"} 0`,
		`smvm_subjects_in_state{state="overlap",subject="role"} 1`,
		`smvm_overdue{name="default",subject="role"} 0`,
		fmt.Sprintf(`smvm_overlap_end_timestamp_seconds{name="default",subject="role"} %s`, exponent(end)),
		`smvm_build_info{version="` + version + `"} 1`,
		`smvm_workers_busy 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("there is no line %s in\n%s", line, text)
		}
	}
	if problems, err := promlint.New(strings.NewReader(text)).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
}

// exponent is how Prometheus writes large numbers.
func exponent(n int64) string {
	digits := fmt.Sprint(n)
	return digits[:1] + "." + strings.TrimRight(digits[1:], "0") + fmt.Sprintf("e+%02d", len(digits)-1)
}

// TestMetricsAreBounded has more roles than series, and those that need somebody
// are among them.
func TestMetricsAreBounded(t *testing.T) {
	m := newMount(t)
	for i := range metrics.MaxRoleSeries + 5 {
		m.write(fmt.Sprintf("roles/r%05d", i), nil)
	}
	m.write("roles/zz", d("rotation_period", "1h"))
	m.write("secrets/zz/pin", d("type", "random"))
	m.policyFails("zz")
	text := m.scrape()
	if n := bytes.Count([]byte(text), []byte("smvm_overdue{")); n != metrics.MaxRoleSeries {
		t.Errorf("%d roles have series", n)
	}
	if !strings.Contains(text, "smvm_subjects_without_series 6\n") || !strings.Contains(text, `smvm_overdue{name="zz",subject="role"} 1`) {
		t.Error("the role that needs somebody has no series, or the others are not counted")
	}
}

// policyFails makes a role overdue: its rotations fail.
func (m *mount) policyFails(role string) {
	m.Helper()
	m.policy("broken", func() (string, error) { return strings.Repeat("b", 30), nil })
	m.write("secrets/"+role+"/pin", d("password_policy", "broken"))
	m.policy("broken", func() (string, error) { return "", fmt.Errorf("no such policy") })
	m.tick(2 * time.Hour)
	m.eventually("a rotation to fail", func() bool { return m.read("status/"+role, nil)["failures"].(int) > 0 })
}
