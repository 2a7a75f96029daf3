// Package testenv is the project's one harness. It starts and stops a real
// PostgreSQL and a real Vault, of one node or of several (Cluster), for the
// acceptance tests, for `make demo`, `make dev` and `make cluster`. It also
// makes them fail: servers and plugins are killed and paused by their methods,
// connections are cut and stalled by a Proxy, at a given statement if need be.
//
// The servers listen on free ports of 127.0.0.1, keep everything in a scratch
// directory of their own, and never outlive the process that started them:
// Stop ends them, and so does the death of that process, whatever kills it
// (see scratch). Where the tools come from is the business of
// scripts/get-vault.sh and scripts/get-postgres.sh, which install or build what
// is missing, so no test needs to be skipped.
//
// PostgreSQL asks everyone for a password (scram-sha-256, on every line of
// pg_hba.conf) and logs every statement, and Vault runs as in production, with
// raft storage, a seal and an audit device, because a harness more lenient than
// the real thing hides what tests are for.
package testenv
