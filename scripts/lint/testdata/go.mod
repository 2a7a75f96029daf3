// Code that scripts/lint-selftest.sh expects the linter to reject, in a tree
// shaped like the real one. Each "want" comment names the linter that has to
// find something on its line.
module github.com/smvm/vault-plugin-secrets-smvm

go 1.26

require (
	github.com/hashicorp/vault/sdk v0.0.0
	github.com/jackc/pgx/v5 v5.0.0
)

replace (
	github.com/hashicorp/vault/sdk => ./fake/sdk
	github.com/jackc/pgx/v5 => ./fake/pgx
)
