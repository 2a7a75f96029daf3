#!/usr/bin/env bash
# demo.sh tells the whole story of the engine on the Vault and the PostgreSQL
# that scripts/devenv.sh starts for it (make demo). It types what an operator
# would type, and checks every claim it makes: if one is not true, it ends with
# an error. The secrets it shows are thrown away with the servers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

: "${SMVM_AUDIT_LOG:?is not set: run this as: make demo}"

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' blue=$'\e[34m' plain=$'\e[0m'
else
	bold='' dim='' red='' green='' blue='' plain=''
fi

chapters=0 checks=0
chapter() {
	chapters=$((chapters + 1))
	printf '\n%s%d. %s%s %s\n' "$bold$blue" "$chapters" "$1" "$plain" "$dim($SECONDS s)$plain"
}

# say prints narration.
say() { printf '%s\n' "$@"; }

die() {
	printf '%s✗ %s%s\n' "$bold$red" "$1" "$plain" >&2
	exit 1
}

# ok counts a claim that was found to be true.
ok() {
	checks=$((checks + 1))
	printf '  %s✓%s %s\n' "$green" "$plain" "$1"
}

# prompt prints a command as it would be typed.
prompt() { printf '\n%s$ %s%s\n' "$bold" "${1//$'\n'/$'\n  '}" "$plain"; }

# run types a command, shows what it answers, and keeps that in $out. It is a
# string, because what is run must be what is shown.
out=
run() {
	prompt "$1"
	out=$(eval "$1" 2>&1) || die "this should have worked: $out"
	[ -z "$out" ] || printf '%s\n' "$out"
}

# refused is run for a command that must not work; its answer must contain $2.
refused() {
	prompt "$1"
	! out=$(eval "$1" 2>&1) || die "this should have been refused: $out"
	printf '%s\n' "$out"
	[[ $out == *"$2"* ]] || die "this should have said: $2"
}

# claim TEXT COMMAND… checks a claim by a command that is not shown.
claim() {
	local text=$1
	shift
	"$@" >/dev/null 2>&1 || die "$text: not true"
	ok "$text"
}

same() { [ "$1" = "$2" ]; }
contains() { [[ $1 == *"$2"* ]]; }

field() { vault read -field="$1" "$2"; }

# login USER PASSWORD counts the orders as that user. Passwords travel in the
# environment, never in arguments, where ps would show them.
login() { PGUSER=$1 PGPASSWORD=$2 psql -d orders -AtX -c 'SELECT count(*) FROM orders' 2>&1; }

# secrets are all secret values that were ever handed out, in all the forms in
# which they could turn up somewhere.
secrets=()
collect() {
	local role=$1 name value
	while read -r name; do
		value=$(field "$name" "smvm/creds/$role")
		[[ $name != *_connection_string ]] || value=${value#postgresql://*:} value=${value%%@*}
		secrets+=("$value")
	done < <(vault read "smvm/creds/$role" |
		awk '$1 ~ /_(password|secret|key|connection_string)$/ { print $1 }')
}

# hits FILE counts the lines with a secret in them.
hits() { printf '%s\n' "${secrets[@]}" | sort -u | grep -cFf - "$1" || true; }

# progress shows one line that is replaced, or, not on a terminal, now and then
# a new one.
progress() {
	if [ -t 1 ]; then
		printf '\r\e[K  %s' "$1"
	elif [ $((${2:-0} % 10)) -eq 0 ]; then
		printf '  %s\n' "$1"
	fi
}
progress_end() { [ ! -t 1 ] || printf '\r\e[K'; }

say "${bold}The SMVM engine: rotating everything an application authenticates with.$plain" \
	"Vault $(vault version | awk -F '[ ,]' '{ print $2 }') runs at $VAULT_ADDR, PostgreSQL $(psql -AtXc 'SHOW server_version' | cut -d ' ' -f 1) at $PGHOST:$PGPORT, both only for this."

# The harness has registered the plugin already; the story begins before that.
version=$(vault plugin list secret | awk '$1 == "vault-plugin-secrets-smvm" { print $2 }')
vault plugin deregister -version="$version" secret vault-plugin-secrets-smvm >/dev/null
export SMVM_PLUGIN_VERSION=$version

chapter 'A database with some orders, and one table that is none of the application'\''s business'
psql -qX -c 'CREATE DATABASE orders'
psql -qX -d orders <<'SQL'
CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY, customer text, amount numeric(10,2));
INSERT INTO orders (customer, amount) VALUES ('Ada', 120.00), ('Grace', 75.50), ('Edsger', 19.90), ('Barbara', 240.00);
CREATE TABLE salaries (employee text, amount numeric(10,2));
SQL
run "psql -d orders -c 'SELECT * FROM orders'"
say '' 'The engine gets a user of its own, no superuser. The application gets two users, which' \
	'take turns, and a role without login that owns its tables. Nobody sees the password:' \
	'psql sends a SCRAM verifier.'
admin_password=$(head -c 24 /dev/urandom | base64)
secrets+=("$admin_password")
run "printf '%s\n' \"\$admin_password\" \"\$admin_password\" |
  setsid -w psql -q -d orders -f bootstrap/install/sql/postgresql.sql"
run "psql -q -d orders -c 'ALTER TABLE orders OWNER TO orders_owner'"
claim 'smvm_admin is no superuser' same f "$(psql -AtX -c "SELECT rolsuper FROM pg_roles WHERE rolname = 'smvm_admin'")"

chapter 'Installing the plugin into Vault'
run "bootstrap/install/configure.sh \"\$SMVM_PLUGIN_BINARY\""
run "bootstrap/install/configure.sh \"\$SMVM_PLUGIN_BINARY\""
claim 'the second time changed nothing' contains "$out" 'Nothing was changed'
run 'vault write smvm/config environment=demo'

chapter 'A connection, and a password that only the engine knows'
run "printf %s \"\$admin_password\" |
  vault write smvm/connections/main host=\$PGHOST port=\$PGPORT database=orders \\
  sslmode=disable username=smvm_admin password=- allowed_roles=default,reports"
run 'vault write -f smvm/rotate-root/main'
say '' "The password that the operator knew is worth nothing any more:"
refused "PGUSER=smvm_admin PGPASSWORD=\$admin_password psql -d orders -c 'SELECT 1'" 'password authentication failed'
ok 'only the engine can log in as smvm_admin'

chapter 'An application: the role "default", with three secrets that rotate together'
say 'Its overlap, the time for which previous values stay valid, is usually a day. Here it is 45 seconds.'
run 'vault write smvm/roles/default rotation_period=30d overlap=45s refresh_interval=10s'
run "vault write smvm/secrets/default/db type=database connection=main \\
  rotation_strategy=alternating_users usernames=orders_a,orders_b \\
  verification_statements='SELECT count(*) FROM orders'"
run 'vault write smvm/secrets/default/jwt type=jwt algorithm=HS256'
run 'vault write smvm/secrets/default/api type=api_key prefix=orders'
say '' 'A second role rotates by itself every minute; more about it later.'
run "psql -q -d orders -v owner=reports_owner -v user_a=reports_a -v user_b=reports_b -f bootstrap/install/sql/postgresql.sql"
run "psql -q -d orders -c 'GRANT SELECT ON orders TO reports_owner'"
run 'vault write smvm/roles/reports rotation_period=60'
run "vault write smvm/secrets/reports/db type=database connection=main \\
  rotation_strategy=alternating_users usernames=reports_a,reports_b"
collect reports

chapter 'What the application reads'
run 'vault read smvm/creds'
collect default
first_user=$(field username smvm/creds/default/db)
first_password=$(field password smvm/creds/default/db)
say '' 'It is flat, has no lease, and says when to read again (ttl). One secret alone, and used:'
run "PGUSER=\$(vault read -field=username smvm/creds/default/db) \\
  PGPASSWORD=\$(vault read -field=password smvm/creds/default/db) \\
  psql -d orders -c 'SELECT session_user, current_user, sum(amount) FROM orders'"
claim "the application logs in as $first_user" contains "$out" "$first_user"

chapter 'A rotation'
run 'vault write -field=report smvm/rotate dry_run=true'
run "vault write smvm/rotate reason='quarterly rotation'"
rotation_id=$(awk '$1 == "rotation_id" { print $2 }' <<<"$out")
rotated_version=$(field version smvm/creds)
claim 'it completed' contains "$out" completed
collect default
second_user=$(field username smvm/creds/default/db)
second_password=$(field password smvm/creds/default/db)
say '' 'How long each step took, from the record of the rotation:'
run "vault read -field=markdown smvm/history/default/$rotation_id format=markdown |
  sed -n '/^## Verification/,/^\$/p'"
claim "the new login is of the other user, $second_user" test "$second_user" != "$first_user"
claim 'the new login works' same 4 "$(login "$second_user" "$second_password")"
claim 'the old login still works: the overlap has begun' same 4 "$(login "$first_user" "$first_password")"
say '' 'Tokens and requests signed with the previous key stay verifiable too:'
run "vault read smvm/creds | grep -E '^Key|previous|version'"
claim 'the previous API key is offered beside the new one' contains "$out" api_previous_key

chapter 'A rotation that goes wrong is as if it had never been'
say 'A check is added that the new login cannot pass: it may not read salaries.'
run "vault write smvm/secrets/default/db verification_statements='SELECT count(*) FROM salaries'"
before=$(vault read smvm/creds | grep -v '^ttl')
refused "vault write smvm/rotate reason='quarterly rotation'" 'rolled back'
claim 'the answer says why' contains "$out" 'insufficient_privilege (SQLSTATE 42501)'
claim 'what applications read is what it was' same "$before" "$(vault read smvm/creds | grep -v '^ttl')"
claim 'the current login works' same 4 "$(login "$second_user" "$second_password")"
claim 'the previous login, whose password had been replaced, works again' same 4 "$(login "$first_user" "$first_password")"
run "vault write smvm/secrets/default/db verification_statements='SELECT count(*) FROM orders'"

chapter 'An operator goes back'
run "vault write smvm/rollback reason='partner does not accept the new API key yet'"
claim 'it completed' contains "$out" completed
claim 'it is a new version, so that applications notice' test "$(field version smvm/creds)" -gt "$rotated_version"
claim "the application is $first_user again, with the password from before" \
	same "$first_user $first_password" "$(field username smvm/creds/default/db) $(field password smvm/creds/default/db)"
claim 'that login works' same 4 "$(login "$first_user" "$first_password")"
claim 'so does the one that was rolled back, for the overlap' same 4 "$(login "$second_user" "$second_password")"
collect default

chapter 'A rotation that happens by itself'
say 'The role "reports" has rotation_period=60. Once a second, an application reads its creds' \
	'and logs in with what it read, straight through the rotation.'
run 'vault read smvm/creds/reports/db | grep -E "^Key|username|vault_rotation|version"'
reports_version=$(field version smvm/creds/reports)
logins=0
until [ "$(field version smvm/creds/reports)" != "$reports_version" ]; do
	[ "$logins" -lt 120 ] || die "no rotation in two minutes: $(vault read smvm/status/reports)"
	read -r reports_user reports_password < <(vault read smvm/creds/reports/db |
		awk '$1 == "username" { user = $2 } $1 == "password" { password = $2 } END { print user, password }')
	[ "$(login "$reports_user" "$reports_password")" = 4 ] || die 'a login failed while the engine rotated'
	progress "version $reports_version, $logins logins" "$logins"
	logins=$((logins + 1))
	sleep 0.8
done
progress_end
collect reports
run 'vault read smvm/creds/reports/db | grep -E "^Key|username|vault_rotation|version"'
ok "version $(field version smvm/creds/reports) came by itself; all $logins logins before it worked"
claim 'the next login works' same 4 "$(login "$(field username smvm/creds/reports/db)" "$(field password smvm/creds/reports/db)")"
run 'vault list -detailed smvm/history/reports'
claim 'history says that it was the schedule' contains "$out" schedule

chapter 'The overlap ends: the value that was rolled back is retired'
waited=0
until vault list -detailed smvm/history/default | awk '$3 == "retire" && $4 == "completed" { found = 1 } END { exit !found }'; do
	[ "$waited" -lt 90 ] || die "nothing was retired: $(vault read smvm/status)"
	progress "$second_user is still valid, as it should be" "$waited"
	waited=$((waited + 1))
	sleep 1
done
progress_end
# What psql says is what the server says; the password itself is in no argument.
refused "PGUSER=\$second_user PGPASSWORD=\$second_password psql -d orders -c 'SELECT 1'" 'password authentication failed'
ok "PostgreSQL refuses the retired login"
refused 'vault read smvm/creds stage=previous' 'no previous value'
run 'vault read -field=secrets smvm/verify'
claim 'the engine proves the same by trying everything' same true "$(field valid smvm/verify)"

chapter 'History: who did what, when and why'
run 'vault list -detailed smvm/history/default'
run 'vault read smvm/history/default'
claim 'the engine finds the chain of hashes complete' same true "$(field chain_valid smvm/history/default)"
hash=''
for id in $(vault list -format=json smvm/history/default | tr -d '[]", '); do
	previous=$(field previous_hash "smvm/history/default/$id")
	[ "$previous" = "$hash" ] || die "entry $id does not follow the one before"
	hash=$(printf '%s\n%s' "$previous" "$(field canonical "smvm/history/default/$id")" | sha256sum | cut -d ' ' -f 1)
	[ "$hash" = "$(field hash "smvm/history/default/$id")" ] || die "entry $id was changed"
done
claim 'so does sha256sum, entry by entry' same "$hash" "$(field head_hash smvm/history/default)"
say '' 'The record that the rotation procedure asks for:'
run "vault read -field=markdown smvm/history/default/$rotation_id format=markdown"

chapter "Vault's audit log"
say 'The newest read of smvm/creds, as the audit device wrote it:'
run "grep '\"path\":\"smvm/creds\"' \"\$SMVM_AUDIT_LOG\" | grep '\"type\":\"response\"' |
  grep db_password | tail -n 1 | grep -o '\"data\":{[^}]*}' | tr ',' '\n'"
claim 'secrets are HMACs' contains "$out" '"db_password":"hmac-sha256:'
claim 'the version is in clear: it says which values were handed out' contains "$out" "\"version\":$(field version smvm/creds)"
say '' 'The request that rotated, found by the vault_request_id of its history record:'
request_id=$(vault read -field=vault_request_id "smvm/history/default/$rotation_id")
run "grep '\"id\":\"$request_id\"' \"\$SMVM_AUDIT_LOG\" | grep -o '\"display_name\":\"[^\"]*\"\|\"operation\":\"[^\"]*\"\|\"path\":\"[^\"]*\"\|\"type\":\"re[^\"]*\"'"
claim 'it is there' contains "$out" '"path":"smvm/rotate"'
say '' "The other way round, rotation ids are HMACs in there; Vault computes the one to look for:"
run "grep -c \"\$(vault write -field=hash sys/audit-hash/file input=$rotation_id)\" \"\$SMVM_AUDIT_LOG\""

chapter 'Where every secret that existed can be found'
say "PostgreSQL logs every statement here (log_statement=all). What it was sent:"
run "grep -o 'ALTER ROLE \"orders_[ab]\" WITH PASSWORD .SCRAM-SHA-256.\{30\}' \"\$SMVM_PG_LOG\" | tail -n 3"
values=$(printf '%s\n' "${secrets[@]}" | sort -u | wc -l)
say '' "All $values values that were handed out, searched for in:"
for log in "$SMVM_AUDIT_LOG" "$SMVM_VAULT_LOG" "$SMVM_PG_LOG"; do
	[ -s "$log" ] || die "$log is empty"
	claim "$(printf '%-12s %7d lines, 0 hits' "${log##*/}" "$(wc -l <"$log")")" same 0 "$(hits "$log")"
done
control=$(mktemp)
trap 'rm -f "$control"' EXIT
vault read smvm/creds >"$control"
claim 'and the search works: in what the application reads there are hits' test "$(hits "$control")" -gt 0

chapter 'The application runs, requests flow, and its secrets rotate'
say 'cmd/smvm-api logs in to Vault by itself, reads smvm/creds, and works in PostgreSQL.'
application=$(mktemp -d)
trap 'kill "${service:-}" "${requests:-}" 2>/dev/null || true; rm -rf "$control" "$application"' EXIT
run "bootstrap/apps/agent/enroll.sh -dir \"\$application\" default"
go build -buildvcs=false -o "$application/smvm-api" ./cmd/smvm-api
address=127.0.0.1:$((20000 + RANDOM % 10000))
api=http://$address
SMVM_ROLE_ID_FILE=$application/role_id SMVM_SECRET_ID_FILE=$application/secret_id \
	"$application/smvm-api" -listen "$address" 2>"$application/log" &
service=$!
attempts=0
until curl -fsS "$api/health" >/dev/null 2>&1; do
	attempts=$((attempts + 1))
	[ "$attempts" -lt 150 ] || die "the application does not serve: $(cat "$application/log")"
	sleep 0.2
done
run "curl -sS $api/health"

# send_requests writes in the database through the application, again and again,
# as a client with the API key of now, and notes each status. The key travels in
# a file, not in arguments.
send_requests() {
	printf 'X-API-Key: %s' "$(field api_key smvm/creds)" >"$application/header"
	while :; do
		curl -sS -o /dev/null -w '%{http_code}\n' -X POST -H "@$application/header" "$api/api/test" || true
	done >"$application/statuses" 2>&1
}
send_requests &
requests=$!
served() { curl -sS "$api/health" | sed -n 's/.*"version":\([0-9]*\).*/\1/p'; }
# watch_requests SECONDS shows how it goes.
watch_requests() {
	local until=$((SECONDS + $1)) sent failed
	while [ "$SECONDS" -lt "$until" ]; do
		sent=$(wc -l <"$application/statuses") failed=$(grep -cv '^200$' "$application/statuses" || true)
		progress "$sent requests, $failed failed; the application uses version $(served)" 0
		sleep 1
	done
	progress_end
}
before_version=$(served)
refusals=$(grep -c 'authentication failed for user "orders_' "$SMVM_PG_LOG" || true)
watch_requests 3
run "vault write smvm/rotate reason='while it runs'"
collect default
waited=0
until [ "$(served)" != "$before_version" ]; do
	[ "$waited" -lt 30 ] || die "the application has not noticed: $(cat "$application/log")"
	watch_requests 1
	waited=$((waited + 1))
done
watch_requests 3
run "curl -sS $api/health"
run "vault write smvm/rollback reason='and back'"
collect default
watch_requests 12
run "curl -sS $api/health"
kill "$requests"
sent=$(wc -l <"$application/statuses")
claim 'the application uses the version that was rolled back to' same "$(served)" "$(field version smvm/creds)"
claim "all $sent requests were answered with 200" same 0 "$(grep -cv '^200$' "$application/statuses" || true)"
claim 'PostgreSQL refused none of its logins' same "$refusals" "$(grep -c 'authentication failed for user "orders_' "$SMVM_PG_LOG" || true)"
claim 'its log has no secret in it' same 0 "$(hits "$application/log")"

printf '\n%sThat is all: %d chapters, %d claims, every one checked, in %d s.%s\n' "$bold$green" "$chapters" "$checks" "$SECONDS" "$plain"
say 'make dev leaves a Vault and a PostgreSQL like these running for you.'
