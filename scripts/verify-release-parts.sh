# shellcheck shell=bash disable=SC2016 # parts expand their commands when they run
# Sourced by verify-release.sh: the parts of the verification, those that take minutes
# first. A part is: name, limit of its time, what it is, what of its output is found
# (a pattern of grep -E; a run without it has failed), and the command.
#
# The command runs in a clean clone. In its environment, $root is the repository that is
# written to. A command that can go on after an interruption notes in the file $progress
# what has passed.

part tofu 45m 'the Terraform module, with OpenTofu (`make tofu`)' \
	'all of it is so, after .*' 'make tofu'
part systemd 45m 'the units of Vault Agent and of the tests after a rotation, in a container (`make systemd`)' \
	'^--- PASS: .*' 'make systemd'
part compose 45m 'the containers of the compose kit (`make compose`)' \
	'^--- PASS: .*' 'make compose'
part kits 45m 'the kits for Node and Java (`make kits`)' \
	'^--- PASS: .*' 'make kits'
part faults 3h 'every fault and every pair of faults at every side effect, and random walks, in the state machine (`SMVM_FAULTS=all`)' \
	'[0-9]+ (single faults|pairs of faults|walks)' "SMVM_FAULTS=all go test -count=1 -timeout 0 -v -run '^Test(Every|Walk)' ./backend/rotation | grep -v -e '^ *--- PASS' -e '^==='"
part ci 1h 'what must pass before a change is merged (`.ci/run`)' \
	'^ok .*/backend/(acceptance|chaos)[[:space:]].*' '.ci/run'
part release 2h 'a release from each of two clones: the same bytes (`make release`)' \
	'^[0-9a-f]{64}' 'git clone -q . ../second && for clone in . ../second; do make -C "$clone" release VERSION=v0.0.0-verification; done && diff -r bin/release ../second/bin/release && sha256sum <bin/release/v0.0.0-verification/SHA256SUMS'
part soak 1h 'random operations under random faults on three nodes, for 30 minutes (`make chaos COLUMN=none`)' \
	'(soak, seed|faults injected:|longest time) .*' 'COLUMN=none DURATION=30m scripts/chaos.sh'
part matrix 4h 'every fault at every point of every operation on three nodes (`make chaos DURATION=0`)' \
	'cells run: .*' 'DURATION=0 SMVM_CHAOS_PASSED="$progress" scripts/chaos.sh'
part load 3h 'rotations [under load](guarantees.md#proof-under-load) (`make load`)' \
	'Measured .* processors' 'scripts/load.sh -report "$root/docs/guarantees.md" -picture "$root/.github/load.svg"'
part kubernetes 2h 'the manifests for Kubernetes, with their operators (`make kubernetes`)' \
	'^\| [A-Z].* to [0-9]+ s' 'scripts/kubernetes.sh'
part bench 4h '[performance](performance.md) (`make bench-report`)' \
	'Measured .* processors' 'scripts/bench.sh -report "$root/docs/performance.md" -picture "$root/.github/bench.svg"'
part bare 6h 'the demo and all tests on a Debian with nothing but Go, git and make (`scripts/bare.sh`)' \
	'That is all: .*|^ok .*/backend/(acceptance|chaos)[[:space:]].*' 'scripts/bare.sh'
part mutants 12h 'every mutation of the engine, caught by a test (`make mutants`)' \
	'[0-9]+ mutations, each caught.*' 'scripts/mutants.sh -results "$progress"'
