package postgres

import (
	"fmt"
	"testing"
	"time"
)

// TestProofsAreBoundedInMemory counts for more users than are kept.
func TestProofsAreBoundedInMemory(t *testing.T) {
	var p proofs
	now := time.Now()
	for n := range maxProven + 100 {
		p.begin(proven{"server", fmt.Sprint(n)}, now)
	}
	if len(p.of) > maxProven {
		t.Errorf("%d users are kept", len(p.of))
	}
	p.begin(proven{"server", "later"}, now.Add(2*proofWindow))
	if len(p.of) != 1 {
		t.Errorf("%d users are kept whose logins count no longer", len(p.of)-1)
	}
	who := proven{"server", "later"}
	for range 2 * maxProofs { // of logins that did not fail, there is no limit
		p.withdraw(who)
		if _, allowed := p.begin(who, now.Add(2*proofWindow)); !allowed {
			t.Fatal("an attempt that was withdrawn counts")
		}
	}
}
