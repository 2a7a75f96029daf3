# A Vault Agent that supervises an application which reads its environment:
#
#   vault agent -config=agent-exec.hcl
#
# It starts the application with the variables below, and starts it anew when
# one of them has changed. No value is ever in a file. See agent.hcl about login
# and about when that happens. The application is away while it restarts: run two
# under agents of their own behind a load balancer, or let it read vault or files.

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
  command                   = ["/usr/local/bin/smvm-api", "-listen", "127.0.0.1:8000", "-from", "environment"]
  restart_on_secret_changes = "always"
  restart_stop_signal       = "SIGTERM"
}

env_template "SMVM_VERSION" {
  contents             = "{{ with secret \"smvm/creds/default\" }}{{ .Data.version }}{{ end }}"
  error_on_missing_key = true
}
env_template "DB_HOST" {
  contents             = "{{ with secret \"smvm/creds/default\" }}{{ .Data.db_host }}{{ end }}"
  error_on_missing_key = true
}
env_template "DB_PORT" {
  contents             = "{{ with secret \"smvm/creds/default\" }}{{ .Data.db_port }}{{ end }}"
  error_on_missing_key = true
}
env_template "DB_NAME" {
  contents             = "{{ with secret \"smvm/creds/default\" }}{{ .Data.db_database }}{{ end }}"
  error_on_missing_key = true
}
# Engines that do not answer sslmode have it in connection_string.
env_template "DB_SSLMODE" {
  contents             = "{{ with secret \"smvm/creds/default\" }}{{ or (index .Data \"db_sslmode\") (.Data.db_connection_string | regexReplaceAll \"^.*[?&]sslmode=([a-z-]+).*$\" \"$1\") }}{{ end }}"
  error_on_missing_key = true
}
# PEM; empty if the authorities are the system's. An application that needs a file
# for it, as libpq does, takes agent.hcl: a supervising Agent writes none.
env_template "DB_SSL_ROOT_CERTIFICATE" {
  contents = "{{ with secret \"smvm/creds/default\" }}{{ with index .Data \"db_ssl_root_certificate\" }}{{ . }}{{ end }}{{ end }}"
}
env_template "DB_USER" {
  contents             = "{{ with secret \"smvm/creds/default\" }}{{ .Data.db_username }}{{ end }}"
  error_on_missing_key = true
}
env_template "DATABASE_PASSWORD" {
  contents             = "{{ with secret \"smvm/creds/default\" }}{{ .Data.db_password }}{{ end }}"
  error_on_missing_key = true
}
env_template "JWT_ALGORITHM" {
  contents             = "{{ with secret \"smvm/creds/default\" }}{{ .Data.jwt_algorithm }}{{ end }}"
  error_on_missing_key = true
}
env_template "JWT_KID" {
  contents             = "{{ with secret \"smvm/creds/default\" }}{{ .Data.jwt_kid }}{{ end }}"
  error_on_missing_key = true
}
# A key that others verify with has a public part instead of a secret, and a private
# one if the engine hands it out (exportable).
env_template "JWT_SECRET" {
  contents             = "{{ with secret \"smvm/creds/default\" }}{{ if not (index .Data \"jwt_public_key\") }}{{ .Data.jwt_secret }}{{ end }}{{ end }}"
  error_on_missing_key = true
}
env_template "JWT_PUBLIC_KEY" {
  contents = "{{ with secret \"smvm/creds/default\" }}{{ with index .Data \"jwt_public_key\" }}{{ . }}{{ end }}{{ end }}"
}
env_template "JWT_PRIVATE_KEY" {
  contents = "{{ with secret \"smvm/creds/default\" }}{{ with index .Data \"jwt_private_key\" }}{{ . }}{{ end }}{{ end }}"
}
env_template "API_KEY" {
  contents             = "{{ with secret \"smvm/creds/default\" }}{{ .Data.api_key }}{{ end }}"
  error_on_missing_key = true
}

# There only during the overlap.
env_template "JWT_PREVIOUS_KID" {
  contents = "{{ with secret \"smvm/creds/default\" }}{{ with .Data.jwt_previous_kid }}{{ . }}{{ end }}{{ end }}"
}
env_template "JWT_PREVIOUS_ALGORITHM" {
  contents = "{{ with secret \"smvm/creds/default\" }}{{ with index .Data \"jwt_previous_algorithm\" }}{{ . }}{{ end }}{{ end }}"
}
env_template "JWT_PREVIOUS_PUBLIC_KEY" {
  contents = "{{ with secret \"smvm/creds/default\" }}{{ with index .Data \"jwt_previous_public_key\" }}{{ . }}{{ end }}{{ end }}"
}
env_template "JWT_PREVIOUS_SECRET" {
  contents = "{{ with secret \"smvm/creds/default\" }}{{ with .Data.jwt_previous_secret }}{{ . }}{{ end }}{{ end }}"
}
env_template "API_PREVIOUS_KEY" {
  contents = "{{ with secret \"smvm/creds/default\" }}{{ with .Data.api_previous_key }}{{ . }}{{ end }}{{ end }}"
}
