# Every target is a line or two; what it does is in scripts/.
VERSION ?=
PLUGIN  := vault-plugin-secrets-smvm
LDFLAGS := $(if $(VERSION),-X github.com/smvm/$(PLUGIN)/backend.version=$(VERSION))

.DEFAULT_GOAL := help
.PHONY: help build report test check lint fmt demo dev cluster compose systemd load kits kubernetes tofu chaos mutants bench bench-report verify-release reference release clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Tell the whole story on a real Vault and a real PostgreSQL
	@scripts/devenv.sh -- scripts/demo.sh

dev: ## Leave the same environment running, and print how to talk to it
	@scripts/devenv.sh

cluster: ## Leave three Vault nodes and a PostgreSQL running, to break and to watch
	@scripts/devenv.sh -cluster

compose: ## Run the containers of bootstrap/apps/compose through rotations (root; docker-compose, podman)
	@scripts/compose.sh

systemd: ## Run the units of bootstrap/apps/agent under a systemd in a container, through rotations and tests
	@scripts/test.sh -v -run '^Test(AgentPage|ChangedUnits|TestedVersion|Units)$$' ./backend/acceptance

load: ## Prove under load that an application notices nothing of rotations
	@scripts/load.sh -report docs/guarantees.md -picture .github/load.svg

tofu: ## Run the Terraform module with OpenTofu on a real Vault and a real PostgreSQL
	@scripts/get-opentofu.sh >/dev/null && scripts/devenv.sh -- scripts/tofu.sh

kubernetes: ## Run the Kubernetes manifests with their operators, and write what was measured
	@scripts/kubernetes.sh -report docs/applications.md

build: ## Build the plugin and smvm-report into bin/ (VERSION=v1.2.3 sets what the plugin reports)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ ./cmd/$(PLUGIN) ./cmd/smvm-report

release: ## Write a release of the commit into bin/release/ (VERSION=v1.2.3; SMVM_RELEASE_KEY= signs it)
	@scripts/release.sh "$(VERSION)"

report: ## Write bin/report.html about the engine at VAULT_ADDR, with VAULT_TOKEN
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -o bin/smvm-report ./cmd/smvm-report
	@bin/smvm-report -out bin/report.html

test: ## Set up what the tests need, then run them all with the race detector
	@scripts/test.sh

kits: ## Run the kits for Node and Java against real servers while secrets rotate
	@scripts/kits.sh

check: ## Lint, and run the tests that start no server: what a change is tried with all day
	@scripts/check.sh

chaos: ## Run every fault at every point, and then random ones (SEED= DURATION=30m)
	@DURATION="$(DURATION)" SEED="$(SEED)" COLUMN="$(COLUMN)" OPERATION="$(OPERATION)" scripts/chaos.sh

mutants: ## Break the engine in many ways, and fail unless tests notice each (ONLY=regexp)
	@scripts/mutants.sh -only "$(ONLY)"

bench: ## Measure the engine beside Vault's own engines (ONLY=reads, rotation, wave, growth or costs)
	@scripts/bench.sh -only "$(ONLY)"

bench-report: ## Measure all of it, and write the tables and the picture of docs/performance.md
	@scripts/bench.sh -report docs/performance.md -picture .github/bench.svg

verify-release: ## Run or resume all that verifies a release, and write docs/verification.md (ONLY=regexp)
	@scripts/verify-release.sh "$(ONLY)"

reference: ## Write docs/reference.md, from what the engine says of its paths
	@go run ./backend/internal/reference -update docs/reference.md

lint: ## Check the Go code, the scripts and the links of the documents
	@scripts/lint.sh

fmt: ## Format the Go code
	@"$$(scripts/get-lint.sh)" fmt ./...

clean: ## Remove what was built here (scripts/get-*.sh say where caches are)
	rm -rf bin
