#!/usr/bin/env bash
# tofu.sh runs the configuration of bootstrap/install/terraform/example with OpenTofu
# and Vault's provider, on the Vault and the PostgreSQL that scripts/devenv.sh starts for
# it (make tofu). It checks what docs/operations.md says of it: if something is not true,
# it ends with an error.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "${BASH_SOURCE[0]}")/prelude.sh"
cd "$root"

: "${SMVM_PLUGIN_DIR:?is not set: run this as: make tofu}"
need jq jq
need python3 python3
tools=$(scripts/get-opentofu.sh)

work=$(mktemp -d)
trap 'kill "${application:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
cp -r bootstrap/install/terraform bootstrap/install/policies "$work"
cd "$work/terraform/example"
export TF_CLI_CONFIG_FILE=$work/tofu.rc TF_IN_AUTOMATION=1 TF_INPUT=0
cat >"$TF_CLI_CONFIG_FILE" <<EOF
provider_installation {
  filesystem_mirror { path = "$tools/providers" }
}
EOF

# run COMMAND… says what is run, and shows what it answered only if that went wrong.
run() {
	say "$*"
	"$@" >"$work/answer" 2>&1 || die "$(cat "$work/answer")"
}
tofu() { "$tools/tofu" "$1" -no-color "${@:2}"; }
apply() { run tofu apply -auto-approve; }

# planned OPTION… prints what a plan would change, one resource a line.
planned() {
	tofu plan -out="$work/plan" "$@" >"$work/answer" 2>&1 || die "plan: $(cat "$work/answer")"
	tofu show -json "$work/plan" | jq -r '.resource_changes[]? | select(.change.actions != ["no-op"])
		| "\(.address | ltrimstr("module.smvm.")) \(.change.actions | join(" "))"'
}

# plans WANT OPTION… checks that a plan changes this and nothing else.
plans() {
	local got
	got=$(planned "${@:2}")
	[ "$got" = "$1" ] || die "planned is: ${got:-nothing}; it should be: ${1:-nothing}"
	say "  planned: ${got:-nothing}"
}

# is WANT COMMAND… checks what a command prints.
is() {
	local got
	got=$("${@:2}" 2>&1) || true
	[ "$got" = "$1" ] || die "${*:2}: $got; it should be: $1"
}
field() { vault read -format=json "$1" | jq -c ".data.$2"; }
sql() { psql -AtqX -d orders -c "$1"; }

# The application, which also takes alerts: it answers everything with 200.
python3 - "$work/port" 2>/dev/null <<'EOF' &
import http.server, os, sys
class Application(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.end_headers()
    do_POST = do_GET
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application)
with open(sys.argv[1] + ".part", "w") as file:
    file.write(str(server.server_port))
os.rename(sys.argv[1] + ".part", sys.argv[1])
server.serve_forever()
EOF
application=$!
deadline=$((SECONDS + 120))
until [ -s "$work/port" ]; do
	[ $SECONDS -lt $deadline ] || die "the application has not started"
	sleep 0.1
done
url=http://127.0.0.1:$(cat "$work/port")

# What a user has done before: the plugin's file, and the users in PostgreSQL.
version=$(vault plugin list secret | awk '$1 == "vault-plugin-secrets-smvm" { print $2 }')
vault plugin deregister -version="$version" secret vault-plugin-secrets-smvm >/dev/null
run "$root/bootstrap/install/configure.sh" -copy-only -version "$version" -plugin-dir "$SMVM_PLUGIN_DIR" "$SMVM_PLUGIN_BINARY"
psql -qX -c 'CREATE DATABASE orders'
password=$(head -c 24 /dev/urandom | base64)
printf '%s\n' "$password" "$password" | setsid -w psql -q -d orders -f "$root/bootstrap/install/sql/postgresql.sql" >/dev/null 2>&1

TF_VAR_plugin_sha256=$(sha256sum <"$SMVM_PLUGIN_BINARY" | cut -d ' ' -f 1)
TF_VAR_alert_key=$(head -c 24 /dev/urandom | base64)
TF_VAR_postgresql=$(jq -n --arg host "$PGHOST" --argjson port "$PGPORT" '{host: $host, port: $port, sslmode: "disable"}')
TF_VAR_application_url=$url TF_VAR_alert_url=$url/hooks/of-a-chat
export TF_VAR_plugin_sha256 TF_VAR_postgresql TF_VAR_application_url TF_VAR_alert_url TF_VAR_alert_key

say "1. The first apply, with the password of smvm_admin; four secrets of one role at once"
run tofu fmt -check -recursive ..
run tofu init
TF_VAR_smvm_admin_password=$password apply
is 4 field smvm/creds version
is true field smvm/verify valid
is "\"$version\"" field sys/mounts/smvm running_plugin_version
PGUSER=smvm_admin PGPASSWORD=$password sql 'SELECT 1' >"$work/answer" 2>&1 && die "the password of the configuration still works"

say "2. Without the password, which leaves the state"
plans 'vault_generic_endpoint.connection["main"] update'
apply
plans ''
rm -f terraform.tfstate.backup
! grep -qrFf <(printf %s "$password") . || die "the password is still in $PWD"

say "3. Rotations are no change"
run vault write smvm/rotate reason='quarterly rotation'
plans ''
run vault write -f smvm/rotate-root/main
run vault write smvm/rollback reason='release misbehaves'
plans ''

say "4. What is changed by hand is found, and put back"
run vault write smvm/roles/default overlap=1h
run vault delete smvm/checks/default/key
run vault write smvm/config environment=staging
plans 'vault_generic_endpoint.check["default/key"] create
vault_generic_endpoint.config[0] update
vault_generic_endpoint.role["default"] update'
apply
plans ''
is 43200 field smvm/roles/default overlap
is '"production"' field smvm/config environment
is '["X-API-Key: {{api_key}}"]' field smvm/checks/default/key headers

say "5. What is changed in the configuration is applied"
active=$(field smvm/creds db_username)
export TF_VAR_rotation_period=604800 TF_VAR_usernames='["orders_b","orders_a"]'
plans 'vault_generic_endpoint.role["default"] update
vault_generic_endpoint.secret["default/db"] update'
apply
plans ''
is 604800 field smvm/roles/default rotation_period
is "$active" field smvm/creds db_username
is true field smvm/verify valid

say "6. A duration with a unit is refused"
cat >units_override.tf <<'EOF'
module "smvm" { roles = { default = { overlap = "24h" } } }
EOF
! tofu plan >"$work/answer" 2>&1 || die "it is not: $(cat "$work/answer")"
grep -q 'Give durations as numbers of seconds' "$work/answer" || die "it is, but: $(cat "$work/answer")"
rm units_override.tf

say "7. Destroyed, it leaves nothing"
run tofu destroy -auto-approve
is 0 jq '.resources | length' terraform.tfstate
is '' bash -c "vault secrets list -format=json | jq -r 'keys[] | select(. == \"smvm/\")'"
is '' bash -c "vault policy list | grep '^smvm' || true"
is 0 sql "SELECT count(*) FROM pg_roles WHERE shobj_description(oid, 'pg_authid') LIKE '%Managed by smvm%'"
# The provider cannot delete one version of a plugin.
run vault plugin deregister -version="$version" secret vault-plugin-secrets-smvm
is '' bash -c "vault plugin list secret | grep smvm || true"
say "all of it is so, after $SECONDS s"
