package smvmcreds

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestRefusedLogins has Vault refuse a login: it is offered again when a file has
// changed or the pause is over, because five refused logins lock the role_id out. What
// is no refusal is tried again each time.
func TestRefusedLogins(t *testing.T) {
	for _, test := range []struct {
		code         int
		answer, told string
		pause        time.Duration
	}{
		{http.StatusBadRequest, `{"errors":["invalid role or secret ID"]}`, "is wrong or has ended", refusedPause},
		{http.StatusForbidden, `{"errors":["permission denied"]}`, "vault read sys/locked-users", lockedPause},
		{http.StatusServiceUnavailable, `{"errors":["Vault is sealed"]}`, "sealed", 0},
		{http.StatusBadRequest, "Client sent an HTTP request to an HTTPS server.", "400", 0},
	} {
		t.Run(fmt.Sprint(test.code, test.pause), func(t *testing.T) {
			var logins atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				logins.Add(1)
				http.Error(w, test.answer, test.code)
			}))
			defer server.Close()
			a := loginFiles(t)
			v := &Vault{Address: server.URL, Path: "smvm/creds/orders", Auth: a}
			read := func() int {
				logins.Store(0)
				for range 3 {
					_, err := v.Read(t.Context(), nil)
					if err == nil || !strings.Contains(err.Error(), test.told) || strings.Contains(err.Error(), "hunter2") {
						t.Errorf("a refused login says %v", err)
					}
				}
				return int(logins.Load())
			}
			once := 1
			if test.pause == 0 {
				once = 3
			}
			if n := read(); n != once {
				t.Errorf("it logged in %d times", n)
			}
			if err := os.WriteFile(a.SecretIDFile, []byte("another"), 0o600); err != nil {
				t.Fatal(err)
			}
			if n := read(); n != once {
				t.Errorf("with another secret_id it logged in %d times", n)
			}
			if test.pause == 0 {
				return
			}
			if n := read(); n != 0 {
				t.Errorf("within the pause it logged in %d times", n)
			}
			if left := time.Until(a.refusal.until); left > test.pause || left < test.pause-time.Minute/2 {
				t.Errorf("the pause lasts %s", left)
			}
			a.refusal.until = time.Now()
			if n := read(); n != 1 {
				t.Errorf("after the pause it logged in %d times", n)
			}
		})
	}
}
