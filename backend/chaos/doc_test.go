// Package chaos breaks a real cluster at every side effect of every operation,
// and then uses what readers are given: three Vault nodes with the built plugin,
// a PostgreSQL, whose place a replica may take, a TCP proxy between them for each
// role, a KV engine that may get copies of values, and who is sent events and asked to
// refuse retired keys.
//
// The plugin is built with the tag failpoints (backend/failpoints.go), so that
// it can be stopped exactly at a point. The matrix has a row for each point of
// each operation (rows_test.go, operations_test.go) and a column for each fault
// (columns_test.go). All cells of a column stand at their points when the fault
// strikes, each in a role of its own, and one fault serves them all. Then there are
// random operations under random faults (soak_test.go). "make test" runs a cut of the
// matrix that has every row of rotations and every column, and soaks shortly; "make
// chaos" runs all cells, and soaks for long.
package chaos
