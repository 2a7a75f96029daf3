#!/usr/bin/env bash
# report-screenshot.sh [SECONDS] makes .github/report.png: it has the engine rotate
# for real, on a Vault and a PostgreSQL that are thrown away, with what may go well
# and wrong in that time (by default four minutes), has an auditor write the report
# to bin/report.html, and takes a picture of that.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"
cd "$root"

readonly lasts=${1:-240}
[ -n "${SMVM_AUDIT_LOG:-}" ] || exec scripts/devenv.sh -enable -- scripts/report-screenshot.sh "$lasts"
need chromium chromium fonts-urw-base35 fonts-liberation2
go build -buildvcs=false -o bin/smvm-report ./cmd/smvm-report

# put ARGUMENTS… writes to Vault, and shows what is answered only if it is refused.
put() {
	local answer
	answer=$(vault write "$@" 2>&1) || die "vault write $1: $answer"
}

# owned ROLE makes a database login for a role of the engine.
owned() {
	psql -q -d shop -v owner="$1_owner" -v user_a="$1_a" -v user_b="$1_b" -f bootstrap/install/sql/postgresql.sql
	put "smvm/secrets/$1/db" type=database connection=main rotation_strategy=alternating_users \
		usernames="$1_a,$1_b" verification_statements='SELECT 1'
}

# goes_wrong ARGUMENTS… writes what has to be refused.
goes_wrong() { ! vault write "$@" >/dev/null 2>&1 || die "this should have been refused: vault write $*"; }

psql -qX -c 'CREATE DATABASE shop'
psql -qX -d shop -c 'CREATE TABLE salaries (employee text)'
password=$(head -c 24 /dev/urandom | base64)
printf '%s\n' "$password" "$password" | setsid -w psql -q -d shop -f bootstrap/install/sql/postgresql.sql
put smvm/config environment=production
printf %s "$password" | put smvm/connections/main host="$PGHOST" port="$PGPORT" database=shop sslmode=disable username=smvm_admin password=- allowed_roles='*'
put -f smvm/rotate-root/main

put smvm/roles/orders rotation_period=30d overlap=50s refresh_interval=10s
owned orders
put smvm/secrets/orders/jwt type=jwt algorithm=ES256
put smvm/secrets/orders/api type=api_key prefix=orders
put smvm/checks/orders/health url="$VAULT_ADDR/v1/sys/health" attempts=1
put smvm/roles/search rotation_period=60 overlap=25s refresh_interval=5s
owned search
put smvm/roles/payments rotation_schedule='* * * * *' overlap=20s refresh_interval=5s
owned payments
put smvm/secrets/payments/signing type=jwt
put smvm/roles/partners rotation_period=60 overlap=15s refresh_interval=5s max_retries=2 retry_interval=20s
put sys/policies/password/partners policy='length = 40 rule "charset" { charset = "abcdefghijklmnopqrstuvwxyz" }'
put smvm/secrets/partners/feed type=random password_policy=partners
put smvm/roles/archive auto_rotate=false
put smvm/secrets/archive/key type=api_key hash_only=true

began=$SECONDS
# at SHARE waits until that percentage of the time has passed.
at() {
	local until=$((began + lasts * $1 / 100))
	[ "$until" -le "$SECONDS" ] || timeout "$((until - SECONDS))" tail -f /dev/null || true
}
at 8
put smvm/rotate/orders reason='quarterly rotation'
at 35
put smvm/rotate/orders reason='the laptop of a developer was stolen' revoke_previous=true
put smvm/rotate/payments reason='new terms of the bank'
at 40
put smvm/rollback/payments reason='the bank has not loaded the new key yet'
vault delete sys/policies/password/partners >/dev/null # by mistake
at 55
put smvm/checks/orders/health expected_status=418
goes_wrong smvm/rotate/orders reason='release 2026.11'
put smvm/checks/orders/health expected_status=200
at 72
put smvm/secrets/search/db verification_statements='SELECT count(*) FROM salaries'
goes_wrong smvm/rotate/search reason='a new colleague'
put smvm/secrets/search/db verification_statements='SELECT 1'
at 88
put smvm/rotate/orders reason='release 2026.11, mended'
put smvm/rotate/search reason='after the mistake with salaries'
at 100

vault policy write smvm-auditor bootstrap/install/policies/auditor.hcl >/dev/null
VAULT_TOKEN=$(vault token create -policy=smvm-auditor -no-default-policy -orphan -field=token) \
	bin/smvm-report -since 12h -out bin/report.html
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$profile" \
	--window-size=1200,1500 --screenshot=.github/report.png "file://$root/bin/report.html" 2>/dev/null
say "wrote bin/report.html and .github/report.png, $(stat -c %s .github/report.png) bytes"
