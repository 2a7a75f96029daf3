// Package rotation is the transaction: it replaces the values of all secrets of
// a role at once, proves the new ones before anyone reads them, keeps the old
// ones for an overlap, and can say afterwards what happened. It knows nothing of
// Vault, PostgreSQL or HTTP; they reach it through Driver and Store.
//
//	idle ──create──▶ intent saved ──set──▶ applied ──test──▶ proven ──ONE Put──▶ committed ──▶ overlap ──retire──▶ idle
//	                     │  any set or test fails: undo, drop pending, record why
//	                     └─ crash anywhere: on the next start probe what the target accepts, then forward or back
//
// Where to read: rotation.go is the way forward from top to bottom, undo.go the
// way back, recover.go what follows a crash, resolve.go what follows a target that goes
// neither way, post_commit.go what comes after a commit, drain.go for whom an overlap goes
// on, unread.go the time that it gives readers, wait.go how people are told, retire.go the
// end of an overlap, by_hand.go one that a person ends, repair.go what is done when a target
// has moved on without us, prepublish.go the keys that are shown before they sign.
// driver.go says what a type of secret has to do, and the files it names what one may do
// besides; state.go holds the types, schedule.go decides what is due and when.
//
// The state of a role is one storage entry, because one Put is the only atom
// that Vault's storage gives a plugin:
//
//	{
//	  "schema": 2,
//	  "policy":  {"period": …, "schedule": "…", "overlap": …, …},
//	  "secrets": {
//	    "db":  {"type": "database", "config": {…}, "current": {…}, "previous": {…}, "pending": {…}},
//	    "jwt": {"type": "jwt", …, "next": {…}}
//	  },
//	  "version": 7,
//	  "last_rotation": "…", "next_rotation": "…",
//	  "in_flight": {"id": "…", "kind": "rotate", …},
//	  "history": {"count": 12, "head": "<sha-256>"},
//	  "outbox":  [ <the records that may not have been appended yet> ]
//	}
package rotation
