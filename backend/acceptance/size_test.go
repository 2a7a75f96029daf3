package acceptance

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestRoleTooLarge fills a role until it would outgrow an entry of Vault's storage:
// what does not fit is refused, and what is there can be rotated and rolled back.
func TestRoleTooLarge(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	r := e.raw()
	e.write("roles/default", nil)
	statuses := map[int]int{}
	for i := range 6 {
		answer := r.do(http.MethodPost, fmt.Sprintf("secrets/default/s%d", i), map[string]any{
			"type": "random", "skip_import_rotation": true, "value": strings.Repeat("0123456789abcdef", 3700) + newHostile(uint64(i), 9).unique(),
		})
		statuses[answer.status]++
		if answer.status != http.StatusOK && !strings.Contains(answer.cause(), "bytes of storage") {
			t.Errorf("%d: %.500s", answer.status, answer.cause())
		}
	}
	if statuses[http.StatusOK] == 0 || statuses[badRequest] == 0 || len(statuses) != 2 {
		t.Errorf("the answers were %v", statuses)
	}
	for _, operation := range []string{"rotate", "rollback", "rotate"} {
		e.write(operation, nil)
	}
	e.creds()
	e.history()
}
