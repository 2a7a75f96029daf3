package chaos

import (
	"slices"
	"strings"
)

// The operations.
const (
	opRotate   = "rotate"
	opRollback = "rollback"
	opUndo     = "undo"    // a rotation whose test is refused
	opRevoke   = "retire"  // a rotation without overlap
	opPublish  = "publish" // a rotation whose values have a destination
	opRoot     = "rotate-root"
	opReader   = "reader"    // an overlap that waits for a reader
	opSession  = "session"   // one that waits for a session of the previous login
	opLimit    = "limit"     // one that waits for a reader who never comes
	opRetire   = "by hand"   // an overlap that is ended by hand
	opForce    = "forced"    // one whose values a reader needs
	opUnforced = "unforced"  // the same without force
	opAsk      = "asked"     // one of a key that an application is asked to refuse
	opPresent  = "presented" // a retired key is presented
	opLeaked   = "leaked"    // a key has leaked, and is replaced
	opNote     = "note"      // a note is added to a record
)

// row is one point of one operation. In its names, $ stands for the app's id.
type row struct {
	strategy, op string
	// point is where the operation stands when the fault strikes; empty when it
	// has been answered.
	point string
	// next is the first SQL after the point: a pattern of what is sent.
	next string
}

// The patterns of what is sent to PostgreSQL.
const (
	sqlAlter  = "ALTER ROLE"
	sqlCommit = "COMMIT"
	sqlLogin  = "user\x00"
)

// name is how the row is printed.
func (r row) name() string {
	point := r.point
	for _, prefix := range []string{"role-$.", "connection-$.", "copy-$.", "check-$.", "$_db.", "$_admin.", "$_"} {
		point = strings.TrimPrefix(point, prefix)
	}
	if point == "" {
		point = "answered"
	}
	return r.op + " " + strings.NewReplacer("-role-$", "", ".", " ").Replace(point)
}

// changesAll tells the operations that give a role a new version of all values.
func changesAll(r row) bool {
	switch r.op {
	case opRotate, opRollback, opUndo, opRevoke, opPublish:
		return true
	}
	return false
}

// changes reports whether the operation makes a new version, of the role or its connection.
func (r row) changes() bool { return changesAll(r) || r.op == opRoot || r.op == opLeaked }

// mayRetire reports whether the previous values may be gone after the operation.
func (r row) mayRetire() bool { return !r.changes() || r.op == opRevoke || r.op == opLeaked }

// rows lists all of them.
func rows() []row {
	var all []row
	for _, strategy := range []string{single, alternating} {
		all = append(all, rotateRows(strategy)...)
		all = append(all, rollbackRows(strategy)...)
		all = append(all, undoRows(strategy)...)
		all = append(all, retireRows(strategy)...)
		all = append(all, publishRows(strategy)...)
	}
	return slices.Concat(all, rootRows(), waitRows(), endRows(), leakedRows(), noteRows())
}

func rotateRows(strategy string) []row {
	return []row{
		{strategy, opRotate, "$_db.create.before", ""},
		{strategy, opRotate, "$_db.look.before", ""},
		{strategy, opRotate, "$_db.look.after", ""},
		{strategy, opRotate, "role-$.rotate-intent.before", ""},
		{strategy, opRotate, "role-$.rotate-intent.after", ""},
		{strategy, opRotate, "$_jwt.test.after", ""},
		{strategy, opRotate, "$_db.set.before", sqlAlter},
		{strategy, opRotate, "$_db.set-fence.before", sqlCommit},
		{strategy, opRotate, "$_db.set-fence.after", sqlCommit},
		{strategy, opRotate, "$_db.set.after", sqlLogin},
		{strategy, opRotate, "$_db.test.before", sqlLogin},
		{strategy, opRotate, "$_db.test.after", ""},
		{strategy, opRotate, "role-$.rotate-commit.before", ""},
		{strategy, opRotate, "role-$.rotate-commit.after", ""},
		{strategy, opRotate, "role-$.append.before", ""},
		{strategy, opRotate, "role-$.append.after", ""},
		{strategy, opRotate, "", ""},
	}
}

func rollbackRows(strategy string) []row {
	return []row{
		{strategy, opRollback, "$_db.look.before", ""},
		{strategy, opRollback, "role-$.rollback-intent.before", ""},
		{strategy, opRollback, "role-$.rollback-intent.after", ""},
		{strategy, opRollback, "$_db.set.before", sqlCommit},
		{strategy, opRollback, "$_db.set-fence.before", sqlCommit},
		{strategy, opRollback, "$_db.set-fence.after", sqlCommit},
		{strategy, opRollback, "$_db.test.before", sqlLogin},
		{strategy, opRollback, "$_db.test.after", ""},
		{strategy, opRollback, "role-$.rollback-commit.before", ""},
		{strategy, opRollback, "role-$.rollback-commit.after", ""},
		{strategy, opRollback, "role-$.append.before", ""},
		{strategy, opRollback, "", ""},
	}
}

func undoRows(strategy string) []row {
	return []row{
		{strategy, opUndo, "$_db.undo.before", sqlAlter},
		{strategy, opUndo, "$_db.undo-fence.before", sqlCommit},
		{strategy, opUndo, "$_db.undo-fence.after", sqlCommit},
		{strategy, opUndo, "$_db.undo.after", sqlLogin},
		{strategy, opUndo, "$_db.probe.before", sqlLogin},
		{strategy, opUndo, "$_db.probe.after", ""},
		{strategy, opUndo, "role-$.rotate-end.before", ""},
		{strategy, opUndo, "role-$.rotate-end.after", ""},
	}
}

func retireRows(strategy string) []row {
	all := []row{
		{strategy, opRevoke, "role-$.retire-intent.before", ""},
		{strategy, opRevoke, "role-$.retire-intent.after", ""},
		{strategy, opRevoke, "$_db.retire.before", sqlLogin},
		{strategy, opRevoke, "$_db.retire.after", ""},
		{strategy, opRevoke, "$_jwt.retire.after", ""},
		{strategy, opRevoke, "role-$.retire-end.before", ""},
		{strategy, opRevoke, "role-$.retire-end.after", ""},
	}
	if strategy == alternating { // with a single user there is nothing to change
		all = append(all, row{strategy, opRevoke, "$_db.retire-fence.before", sqlCommit},
			row{strategy, opRevoke, "$_db.retire-fence.after", sqlCommit})
	}
	return all
}

// publishRows are points after the commit, when a destination is given the values.
func publishRows(strategy string) []row {
	return []row{
		{strategy, opPublish, "copy-$.publish.before", ""},
		{strategy, opPublish, "copy-$.publish.after", ""},
		{strategy, opPublish, "role-$.other.before", ""},
		{strategy, opPublish, "role-$.other.after", ""},
	}
}

func rootRows() []row {
	return []row{
		{single, opRoot, "connection-$.rotate-intent.before", ""},
		{single, opRoot, "connection-$.rotate-intent.after", ""},
		{single, opRoot, "$_admin.set.before", sqlAlter},
		{alternating, opRoot, "$_admin.set-fence.before", sqlCommit},
		{single, opRoot, "$_admin.set-fence.after", sqlCommit},
		{alternating, opRoot, "$_admin.set.after", sqlLogin},
		{single, opRoot, "$_admin.test.before", sqlLogin},
		{alternating, opRoot, "$_admin.test.after", ""},
		{single, opRoot, "connection-$.rotate-commit.before", ""},
		{alternating, opRoot, "connection-$.rotate-commit.after", ""},
		{single, opRoot, "connection-$.retire-intent.before", ""},
		{alternating, opRoot, "$_admin.retire.before", sqlLogin},
		{alternating, opRoot, "connection-$.retire-end.before", ""},
		{single, opRoot, "connection-$.retire-end.after", ""},
		{alternating, opRoot, "connection-$.append.before", ""},
		{single, opRoot, "", ""},
	}
}

// waitRows are points of overlaps that go on because somebody needs the previous values.
// One worker stores the readers of all roles, and one the uses of retired values, so of what
// they write there is only one row each.
func waitRows() []row {
	return []row{
		{alternating, opReader, "readers-role-$.write.before", ""},
		{alternating, opReader, "role-$.wait.before", ""},
		{single, opReader, "role-$.wait.before", ""},
		{alternating, opReader, "role-$.wait.after", ""},
		{alternating, opReader, "role-$.wait-end.before", ""},
		{alternating, opReader, "role-$.wait-end.after", ""},
		{single, opReader, "retired-role-$.write.before", ""},
		{alternating, opReader, "retired-role-$.write.after", ""},
		{alternating, opReader, "$_db.retire.before", sqlLogin},
		{single, opReader, "role-$.retire-end.after", ""},
		{alternating, opSession, "$_db.look.before", ""},
		{alternating, opSession, "$_db.look.after", ""},
		{alternating, opSession, "role-$.wait-end.before", ""},
		{alternating, opSession, "role-$.wait-end.after", ""},
		{single, opLimit, "role-$.wait.after", ""},
		{alternating, opLimit, "role-$.wait-end.before", ""},
		{alternating, opLimit, "role-$.wait-end.after", ""},
		{alternating, opLimit, "role-$.retire-intent.after", ""},
	}
}

// endRows are points of overlaps that somebody ends, and of what comes after an end.
func endRows() []row {
	return []row{
		{alternating, opRetire, "$_db.look.after", ""},
		{alternating, opRetire, "role-$.retire-intent.before", ""},
		{single, opRetire, "role-$.retire-intent.after", ""},
		{alternating, opRetire, "$_db.retire.after", ""},
		{single, opRetire, "retired-role-$.write.after", ""},
		{alternating, opRetire, "role-$.retire-end.after", ""},
		{single, opRetire, "role-$.append.before", ""},
		{single, opRetire, "", ""},
		{single, opForce, "role-$.retire-intent.after", ""},
		{alternating, opForce, "retired-role-$.write.before", ""},
		{single, opForce, "role-$.retire-end.before", ""},
		{alternating, opUnforced, "$_db.look.before", ""},
		{alternating, opUnforced, "$_db.look.after", ""},
		{single, opAsk, "role-$.hold.before", ""},
		{alternating, opAsk, "role-$.hold.after", ""},
		{single, opAsk, "role-$.retire-intent.after", ""},
		{alternating, opAsk, "check-$.ask.before", ""},
		{single, opAsk, "check-$.ask.after", ""},
		{single, opPresent, "retired-role-$.write.before", ""},
		{alternating, opPresent, "", ""},
	}
}

// leakedRows are points of the replacement of a key, which asks no target.
func leakedRows() []row {
	return []row{
		{single, opLeaked, "$_api.create.before", ""},
		{alternating, opLeaked, "role-$.rotate-intent.after", ""},
		{single, opLeaked, "$_api.test.after", ""},
		{alternating, opLeaked, "retired-role-$.write.before", ""},
		{single, opLeaked, "role-$.rotate-commit.before", ""},
		{alternating, opLeaked, "role-$.rotate-commit.after", ""},
		{single, opLeaked, "role-$.retire-intent.before", ""},
		{alternating, opLeaked, "role-$.retire-end.before", ""},
		{single, opLeaked, "", ""},
	}
}

func noteRows() []row {
	return []row{
		{single, opNote, "role-$.other.before", ""},
		{alternating, opNote, "role-$.other.after", ""},
		{single, opNote, "role-$.append.before", ""},
		{alternating, opNote, "role-$.append.after", ""},
		{single, opNote, "", ""},
	}
}
