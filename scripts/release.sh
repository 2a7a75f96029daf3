#!/usr/bin/env bash
# release.sh [-quick] VERSION writes a release of what is committed to
# bin/release/VERSION. The same commit, version and Go give the same bytes, on any
# machine. It builds everything that is built from here twice, in two directories and
# with nothing of the first build left over, and compares.
#
# SMVM_RELEASE_KEY names a file with minisign's private key, which signs SHA256SUMS.
# .github/release.pub has to be its public key. Without it, the release is not signed.
#
# -quick is for tests: amd64 alone, and Go may keep what it compiled for the first build.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

readonly plugin=vault-plugin-secrets-smvm programs=(vault-plugin-secrets-smvm smvm-report)
architectures=(amd64 arm64) quick=no
if [ "${1-}" = -quick ]; then
	architectures=(amd64) quick=yes
	shift
fi
readonly version=${1-} public=$root/.github/release.pub
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] || die "which version? For example: make release VERSION=v0.1.0"
command -v go >/dev/null || die "install Go 1.26 first"
cd "$root"
[ -z "$(git status --porcelain)" ] || die "a release is of a commit, and here are changes that are not committed: $(git status --short | head -n 1)"
[ -z "${SMVM_RELEASE_KEY-}" ] || [ -f "$public" ] || die "SMVM_RELEASE_KEY is set, and there is no .github/release.pub to verify the signature with"
need minisign minisign
need jq jq

# What could make other bytes elsewhere.
umask 022
export LC_ALL=C TZ=UTC CGO_ENABLED=0 GOOS=linux GOAMD64=v1 GOARM64=v8.0 GOEXPERIMENT='' GOWORK=off GOFLAGS=-mod=readonly
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

# tool PACKAGE prints the path of a program that makes releases, for this machine.
tool() { env -u GOOS scripts/get-tool.sh release "$1"; }
image=$(tool ./image) licences=$(tool ./licences)
sbom=$(tool github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod)
nfpm=$(tool github.com/goreleaser/nfpm/v2/cmd/nfpm)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
readonly out=$work/release
mkdir "$out"

# source_of DIRECTORY writes the sources of the commit there.
source_of() {
	mkdir -p "$1"
	git -c tar.umask=0022 archive HEAD | tar -x -C "$1"
}

# named PROGRAM ARCHITECTURE prints the name that a program has in a release.
named() { printf '%s_linux_%s_%s' "$1" "$2" "$version"; }

# build SOURCES DIRECTORY builds all programs.
build() {
	local arch program
	for arch in "${architectures[@]}"; do
		GOARCH=$arch make -s -C "$1" build VERSION="$version"
		for program in "${programs[@]}"; do
			mv "$1/bin/$program" "$2/$(named "$program" "$arch")"
		done
	done
}

# build_twice builds into $out what comes out the same from two builds.
build_twice() {
	local again=$work/again program
	mkdir "$again"
	source_of "$work/one"
	source_of "$work/another/directory"
	build "$work/one" "$out"
	[ "$quick" = yes ] || export GOCACHE=$work/cache
	build "$work/another/directory" "$again"
	for program in "$out"/*; do
		cmp "$program" "$again/${program##*/}" || die "a second build of ${program##*/} has other bytes"
	done
}

# describe writes what is in the programs: bills of materials, licences, the API.
describe() {
	local program built=("$out"/*)
	for program in "${built[@]}"; do
		"$sbom" bin -json -std -noserial -notimestamp -version "$version" "$program" 2>"$work/messages" |
			# Not the sums of the tool, which are others on other machines.
			jq --argjson made "$SOURCE_DATE_EPOCH" '.metadata.timestamp = ($made | todate) | del(.metadata.tools[].hashes)' \
				>"$program.cdx.json" || die "could not list the modules of ${program##*/}: $(<"$work/messages")"
	done
	env -u GOOS "$licences" -module "$work/one" "${built[@]}" >"$out/LICENCES.txt"
	(cd "$work/one" && env -u GOOS go run -ldflags "-X github.com/smvm/$plugin/backend.version=$version" ./backend/internal/reference -openapi "$out/openapi.json")
}

# archive writes what an operator takes home, with the documents about it.
archive() {
	tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --exclude='*_test.go' \
		-C "$work/one" -c README.md CHANGELOG.md LICENSE docs bootstrap | gzip -n >"$out/${plugin}_bootstrap_$version.tar.gz"
}

# package ARCHITECTURE writes the package of Debian and the container image.
package() {
	local arch=$1 files=$work/files-$1
	mkdir -p "$files/usr/bin" "$files/usr/lib/$plugin" "$files/usr/share/$plugin" "$files/usr/share/doc/$plugin"
	tar -x -C "$files/usr/share/$plugin" <"$work/bootstrap.tar"
	cp "$out/$(named smvm-report "$arch")" "$files/usr/bin/smvm-report"
	cp "$out/$(named "$plugin" "$arch")" "$files/usr/lib/$plugin/${plugin}_$version"
	cat "$work/one/LICENSE" "$out/LICENCES.txt" >"$files/usr/share/doc/$plugin/copyright"
	find "$files" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
	FILES=$files ARCH=$arch VERSION=$version "$nfpm" package --config scripts/tools/release/nfpm.yaml --packager deb \
		--target "$out/${plugin}_${version#v}_$arch.deb" >/dev/null
	"$image" -binary "$out/$(named "$plugin" "$arch")" -arch "$arch" -version "$version" -epoch "$SOURCE_DATE_EPOCH" \
		-out "$out/$(named "$plugin" "$arch").oci.tar"
}

# sign signs the sums, and verifies that as a user does.
sign() {
	if [ -z "${SMVM_RELEASE_KEY-}" ]; then
		say "not signed, because SMVM_RELEASE_KEY names no key"
		return
	fi
	# The comment has no time, which minisign would take from the clock.
	minisign -S -s "$SMVM_RELEASE_KEY" -m "$out/SHA256SUMS" -t "$plugin $version" >/dev/null || die "could not sign SHA256SUMS"
	minisign -Vqm "$out/SHA256SUMS" -p "$public" || die ".github/release.pub is not the public key of SMVM_RELEASE_KEY"
}

build_twice
describe
archive
gunzip <"$out/${plugin}_bootstrap_$version.tar.gz" >"$work/bootstrap.tar"
for arch in "${architectures[@]}"; do
	package "$arch"
done
(cd "$out" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
sign
rm -rf "bin/release/$version"
mkdir -p bin/release
mv "$out" "bin/release/$version"
say "bin/release/$version is made of $(git rev-parse --short HEAD) with $(go env GOVERSION)"
