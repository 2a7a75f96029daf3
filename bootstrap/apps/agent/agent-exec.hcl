# A Vault Agent that supervises an application which reads its environment:
#
#   SMVM_COMMAND=… SMVM_CREDS=… SMVM_DB=… SMVM_JWT=… SMVM_API=… vault agent -config=agent-exec.hcl
#
# It starts SMVM_COMMAND with the variables below, and starts it anew when one of
# them has changed. No value is ever in a file. agent.hcl explains the login,
# SMVM_CREDS, the names of secrets, and when the Agent reads. Here, set all five
# variables. The application is down while it restarts. So run two instances, each
# under an Agent of its own, behind a load balancer, or let it read Vault or files.

auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "/etc/smvm-api/role_id"
      secret_id_file_path                 = "/etc/smvm-api/secret_id"
      remove_secret_id_file_after_reading = false
    }
  }
}

template_config {
  exit_on_retry_failure = false
}

exec {
  command                   = ["/bin/sh", "-c", "eval \"exec ${SMVM_COMMAND:?is not set}\""]
  restart_on_secret_changes = "always"
  restart_stop_signal       = "SIGTERM"
}

# If the role lacks a secret that is named, the application is not started.
env_template "SMVM_VERSION" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ $creds := .Data }}{{ range sprig_list (print (env \"SMVM_DB\") \"_password\") (print (env \"SMVM_JWT\") \"_kid\") (print (env \"SMVM_API\") \"_key\") }}{{ if not (or (sprig_hasKey $creds .) (sprig_hasKey $creds (print . \"_sha256\")) (sprig_hasPrefix \"_\" .)) }}{{ sprig_fail (print \"creds has no \" .) }}{{ end }}{{ end }}{{ .Data.version }}{{ end }}"
}
env_template "DB_HOST" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_DB\") \"_host\") }}{{ . }}{{ end }}{{ end }}"
}
env_template "DB_PORT" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_DB\") \"_port\") }}{{ . }}{{ end }}{{ end }}"
}
env_template "DB_NAME" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_DB\") \"_database\") }}{{ . }}{{ end }}{{ end }}"
}
# If creds has no field sslmode, it is in connection_string.
env_template "DB_SSLMODE" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_DB\") \"_sslmode\") }}{{ . }}{{ else }}{{ with index .Data (print (env \"SMVM_DB\") \"_connection_string\") }}{{ . | regexReplaceAll \"^.*[?&]sslmode=([a-z-]+).*$\" \"$1\" }}{{ end }}{{ end }}{{ end }}"
}
# PEM; empty if the authorities are the system's. If the application needs it in a
# file, as libpq does, use agent.hcl: this Agent writes no file.
env_template "DB_SSL_ROOT_CERTIFICATE" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_DB\") \"_ssl_root_certificate\") }}{{ . }}{{ end }}{{ end }}"
}
env_template "DB_USER" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_DB\") \"_username\") }}{{ . }}{{ end }}{{ end }}"
}
env_template "DATABASE_PASSWORD" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_DB\") \"_password\") }}{{ . }}{{ end }}{{ end }}"
}

env_template "JWT_ALGORITHM" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_JWT\") \"_algorithm\") }}{{ . }}{{ end }}{{ end }}"
}
env_template "JWT_KID" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_JWT\") \"_kid\") }}{{ . }}{{ end }}{{ end }}"
}
# An asymmetric key has JWT_PUBLIC_KEY instead of JWT_SECRET and, if it is exportable,
# JWT_PRIVATE_KEY.
env_template "JWT_SECRET" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_JWT\") \"_secret\") }}{{ . }}{{ end }}{{ end }}"
}
env_template "JWT_PUBLIC_KEY" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_JWT\") \"_public_key\") }}{{ . }}{{ end }}{{ end }}"
}
env_template "JWT_PRIVATE_KEY" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_JWT\") \"_private_key\") }}{{ . }}{{ end }}{{ end }}"
}
# An API key with hash_only has only a hash.
env_template "API_KEY_SHA256" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_API\") \"_key_sha256\") }}{{ . }}{{ end }}{{ end }}"
}
env_template "API_KEY" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_API\") \"_key\") }}{{ . }}{{ end }}{{ end }}"
}

# There only during the overlap.
env_template "JWT_PREVIOUS_KID" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_JWT\") \"_previous_kid\") }}{{ . }}{{ end }}{{ end }}"
}
env_template "JWT_PREVIOUS_ALGORITHM" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_JWT\") \"_previous_algorithm\") }}{{ . }}{{ end }}{{ end }}"
}
env_template "JWT_PREVIOUS_PUBLIC_KEY" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_JWT\") \"_previous_public_key\") }}{{ . }}{{ end }}{{ end }}"
}
env_template "JWT_PREVIOUS_SECRET" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_JWT\") \"_previous_secret\") }}{{ . }}{{ end }}{{ end }}"
}
env_template "API_PREVIOUS_KEY_SHA256" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_API\") \"_previous_key_sha256\") }}{{ . }}{{ end }}{{ end }}"
}
env_template "API_PREVIOUS_KEY" {
  contents = "{{ with secret (env \"SMVM_CREDS\") }}{{ with index .Data (print (env \"SMVM_API\") \"_previous_key\") }}{{ . }}{{ end }}{{ end }}"
}
