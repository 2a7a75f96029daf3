#!/usr/bin/env bash
# verify-release.sh [REGEXP] runs the parts of verify-release-parts.sh whose names match,
# all by default, and writes docs/verification.md. What has passed on this commit is not
# run again, and a part that was interrupted goes on where it stopped, if it can.
#
# "This commit" is the last one that changed more than what is written here. It is run
# from clean clones, so results can be committed as they come. They are in
# docs/verification: a line for each run in runs.tsv, and for an unfinished part the file
# PART-COMMIT.tsv with what of it has passed. bin/verify-release has the output of each
# part's last run.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"

readonly only=${1:-.} page=$root/docs/verification.md results=$root/docs/verification logs=$root/bin/verify-release
readonly written=(docs/verification docs/verification.md docs/guarantees.md docs/performance.md .github/load.svg .github/bench.svg)
# What make was told is for this script.
unset MAKEFLAGS MFLAGS MAKELEVEL ONLY

names=() limits=() whats=() founds=() commands=()
part() {
	names+=("$1") limits+=("$2") whats+=("$3") founds+=("$4") commands+=("$5")
}
# shellcheck source=scripts/verify-release-parts.sh
. "$root/scripts/verify-release-parts.sh"
printf '%s\n' "${names[@]}" | grep -qE -- "$only" || die "no part is called $only; there are ${names[*]}"

cd "$root"
readonly others=(. "${written[@]/#/:(exclude)}")
changed=$(git status --porcelain -- "${others[@]}")
[ -z "$changed" ] || die "what is verified is a commit, and here are changes that are not committed: $(head -n 1 <<<"$changed")"
commit=$(git log -1 --format=%H -- "${others[@]}")
readonly commit

# passed NAME tells whether a part has passed on this commit.
passed() {
	awk -F '\t' -v name="$1" -v commit="$commit" \
		'$1 == name && $2 == commit && $5 == "passed" { found = 1 } END { exit !found }' "$results/runs.tsv"
}

# rows I prints what is known of a part, as rows of the page's table: its last run on this
# commit and, unless it has passed on it, the last one that passed on another, or ended.
rows() {
	local name=${names[$1]} file begun=()
	for file in "$results/$name"-*.tsv; do
		[ ! -s "$file" ] || begun+=("$file")
	done
	WHAT=${whats[$1]} awk -F '\t' -v name="$name" -v commit="$commit" -v begun="${#begun[@]}" '
		function row(of, run) {
			split(last[of], run)
			printf "| %s | %s | %s | %s`%.10s` | %s | %d min %d s | %d of %d | %s |\n", name, ENVIRON["WHAT"], run[5],
				of == commit ? "" : "another: ", of, run[3], run[4] / 60, run[4] % 60, passed[of], runs[of], run[6]
		}
		$1 == name {
			runs[$2]++
			last[$2] = $0
			other = $2
			if ($5 == "passed") {
				passed[$2]++
				good = $2
			}
		}
		END {
			if (good) other = good
			if (commit in last) row(commit)
			if (other && other != commit && !passed[commit]) row(other)
			if (!other && !begun) printf "| %s | %s | not run yet | | | | | |\n", name, ENVIRON["WHAT"]
		}' "$results/runs.tsv"
	for file in "${begun[@]}"; do
		file=${file#"$results/$name-"} file=${file%.tsv}
		# shellcheck disable=SC2016 # markdown
		printf '| %s | %s | unfinished | %s`%.10s` | | | | passed so far: %d |\n' "$name" "${whats[$1]}" \
			"$([ "$file" = "$commit" ] || echo 'another: ')" "$file" "$(wc -l <"$results/$name-$file.tsv")"
	done
}

write_page() {
	local i
	{
		cat <<-PAGE
			# Verification

			How the engine was verified as a whole, and what was found. \`make verify-release\` runs each part in a clean clone, and writes this page; [contributing](../.github/CONTRIBUTING.md#commands) says what the commands do.

			This page is about commit \`$commit\`. A row that names another commit is about an earlier run, which does not cover later changes. *Passed* says how many runs of the part passed, of all that ended on the commit of the row. *Unfinished* means that only some of the part has passed; on the same commit, \`make verify-release\` goes on from there. Times are UTC.

			| part | what | result | commit | began | took | passed | found |
			|---|---|---|---|---|---|---|---|
		PAGE
		for i in "${!names[@]}"; do
			rows "$i"
		done
	} >"$page.part"
	mv "$page.part" "$page"
}

# one_line makes one line of many, without what has a meaning in a table.
one_line() {
	awk '{ gsub(/[[:cntrl:]]/, " "); gsub(/ *\| */, ", "); $1 = $1; sub(/^, /, ""); printf "%s%s", separator, $0; separator = "; " }'
}

# run I runs a part, and notes what came of it.
run() {
	local name=${names[$1]} log=$logs/${names[$1]}.log began code=0 took found result=passed
	export root progress=$results/$name-$commit.tsv
	say "$name: ${commands[$1]}"
	rm -rf "$work/second"
	git -C "$work/clone" checkout -q --force --detach "$commit"
	git -C "$work/clone" clean -ffdqx
	began=$(date -u '+%F %R')
	SECONDS=0
	# It ends when this script does, however that ends.
	(cd "$work/clone" && exec setpriv --pdeathsig TERM timeout -k 60 "${limits[$1]}" bash -euo pipefail -c "${commands[$1]}") >"$log" 2>&1 </dev/null 9>&- &
	running=$!
	wait "$running" || code=$?
	running='' took=$SECONDS
	found=$(grep -oE -- "${founds[$1]}" "$log" | one_line) || true
	case $code in
	0) [ -n "$found" ] || result='failed: its output lacks what is looked for' ;;
	124) result="stopped after ${limits[$1]}" ;;
	*) result=failed ;;
	esac
	if [ "$result" = passed ]; then
		rm -f "$results/$name"-*.tsv
	else
		found=$(tail -n 5 "$log" | one_line | tr '`' "'")
		found="\`${found:0:800}\`"
	fi
	printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$commit" "$began" "$took" "$result" "$found" >>"$results/runs.tsv"
	write_page
	say "$name: $result after $took s: $found"
}

mkdir -p "$results" "$logs"
lock "$logs"
touch "$results/runs.tsv"
write_page

work=$(mktemp -d -t smvm-verify.XXXXXX) running=
finish() {
	if [ -n "$running" ]; then
		kill "$running" 2>/dev/null || true
		wait "$running" || true
	fi
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
git clone -q --no-checkout "$root" "$work/clone"

code=0 left=()
for i in "${!names[@]}"; do
	name=${names[$i]}
	if ! passed "$name" && [[ $name =~ $only ]]; then
		run "$i"
		passed "$name" || code=1
	fi
	passed "$name" || left+=("$name")
done
say "$((${#names[@]} - ${#left[@]})) of ${#names[@]} parts have passed on ${commit:0:10}${left[*]:+; left: ${left[*]}}; see ${page#"$root/"}"
[ "$code" = 0 ]
