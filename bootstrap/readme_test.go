package bootstrap

import (
	"regexp"
	"testing"
)

// byHand is a command that writes where an application reads. As root that follows
// links, which the scripts refuse to.
var byHand = regexp.MustCompile(`(?m)^.*(?:\b(?:cp|mv|ln|tee|touch|chown|chmod|rsync|install)\b[^|;\n]*|>+\s*)"?/(?:etc|var|run|srv|opt)/.*$`)

// TestNothingWrittenByHand looks for such commands in what people copy from.
func TestNothingWrittenByHand(t *testing.T) {
	for _, file := range documents(t) {
		for _, line := range byHand.FindAllString(read(t, file), -1) {
			t.Errorf("%s has people write through whatever lies there: %s", file, line)
		}
	}
	for _, line := range []string{"cp -r bootstrap/apps/agent/templates /etc/smvm-api/", `echo "VAULT_ADDR=$VAULT_ADDR" >/etc/smvm-api/vault-agent.env`, "x | tee -a /var/lib/smvm-api/.env"} {
		if !byHand.MatchString(line) {
			t.Errorf("it overlooks %s", line)
		}
	}
}
