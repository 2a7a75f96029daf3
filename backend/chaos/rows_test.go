package chaos

import "strings"

// The operations.
const (
	opRotate   = "rotate"
	opRollback = "rollback"
	opUndo     = "undo"    // a rotation whose test is refused
	opRevoke   = "retire"  // a rotation without overlap
	opPublish  = "publish" // a rotation whose values have a destination
	opRoot     = "rotate-root"
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
	for _, prefix := range []string{"role-$.", "connection-$.", "copy-$.", "$_db.", "$_admin.", "$_"} {
		point = strings.TrimPrefix(point, prefix)
	}
	if point == "" {
		point = "answered"
	}
	return r.op + " " + strings.ReplaceAll(point, ".", " ")
}

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
	return append(all, rootRows()...)
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
