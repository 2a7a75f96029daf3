package bootstrap

import (
	"os"
	"regexp"
	"testing"
)

// byHand is a command that writes where an application reads. As root that follows
// links, which the scripts refuse to.
var byHand = regexp.MustCompile(`(?m)^.*(?:\b(?:cp|mv|ln|tee|touch|chown|chmod|rsync|install)\b[^|;\n]*|>+\s*)"?/(?:etc|var|run|srv|opt)/.*$`)

// TestNothingWrittenByHand looks for such commands in what people copy from.
func TestNothingWrittenByHand(t *testing.T) {
	for _, file := range []string{"../README.md", "RUNBOOK.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range byHand.FindAll(text, -1) {
			t.Errorf("%s has people write through whatever lies there: %s", file, line)
		}
	}
	for _, line := range []string{"cp -r bootstrap/agent/templates /etc/smvm-api/", `echo "VAULT_ADDR=$VAULT_ADDR" >/etc/smvm-api/vault-agent.env`, "x | tee -a /var/lib/smvm-api/.env"} {
		if !byHand.MatchString(line) {
			t.Errorf("it overlooks %s", line)
		}
	}
}
