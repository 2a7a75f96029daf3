// What others read our values with, for the acceptance tests: a module of its own,
// so that their dependencies never touch the plugin's. See scripts/get-reader.sh.
module github.com/smvm/vault-plugin-secrets-smvm/backend/acceptance/readers

go 1.26

require (
	github.com/compose-spec/compose-go/v2 v2.9.0
	github.com/docker/cli v28.5.1+incompatible
)

require (
	github.com/davecgh/go-spew v1.1.2-0.20180830191138-d8f796af33cc // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/sirupsen/logrus v1.9.3 // indirect
	github.com/stretchr/testify v1.10.0 // indirect
	golang.org/x/sys v0.34.0 // indirect
)
