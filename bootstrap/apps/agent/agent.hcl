# A Vault Agent that keeps .env, config/secrets.yaml and db-ca.pem of an
# application current, and writes into read.env when it has read last.
#
#   vault agent -config=agent.hcl
#
# It logs in with the two files that enroll.sh writes, finds Vault by VAULT_ADDR
# and VAULT_CACERT, and runs as the application's own user, so that what it
# writes needs mode 0600 only. It writes to /var/lib/smvm-api, which belongs to
# that user. It reads its configuration from /etc/smvm-api, which belongs to root
# (see install.sh). Files are replaced by a rename: nobody ever reads half of one.
# While Vault is away they stay as they are.
#
# Which values: the environment says it. SMVM_CREDS is the path to read, and SMVM_DB,
# SMVM_JWT and SMVM_API are the names of the role's secrets; leave one empty if the role
# has no such secret. Where these are not set, they are smvm/creds/default, db, jwt and api.
#
# When: the engine answers rotation_period and ttl, so the Agent comes back one
# second after ttl has passed. A rotation by period or by cron is in the files
# about a second after its commit, a manual one, an emergency or a rollback
# within the role's refresh_interval and a second. For those to be faster, make
# refresh_interval shorter (vault write smvm/roles/default refresh_interval=30s),
# or restart the Agent, which makes it read at once.

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

# All are rendered from the same read, so they are of one version. The command
# runs once, when all have been written: smvm-api-changed.path reacts to it. It has to
# succeed: after one that fails, the Agent pauses, for longer each time.
template {
  source               = "/etc/smvm-api/templates/env.ctmpl"
  destination          = "/var/lib/smvm-api/.env"
  perms                = "0600"
  error_on_missing_key = true
  exec {
    command = ["/bin/sh", "-c", "touch /run/smvm-api/changed || :"]
    timeout = "10s"
  }
}

template {
  source               = "/etc/smvm-api/templates/secrets.yaml.ctmpl"
  destination          = "/var/lib/smvm-api/config/secrets.yaml"
  perms                = "0600"
  error_on_missing_key = true
  exec {
    command = ["/bin/sh", "-c", "touch /run/smvm-api/changed || :"]
    timeout = "10s"
  }
}

# If this file has a certificate, DB_SSLROOTCERT in .env names it. For a program that
# needs the certificate in its environment, use agent-exec.hcl.
template {
  source               = "/etc/smvm-api/templates/db-ca.pem.ctmpl"
  destination          = "/var/lib/smvm-api/db-ca.pem"
  perms                = "0600"
  error_on_missing_key = true
  exec {
    command = ["/bin/sh", "-c", "touch /run/smvm-api/changed || :"]
    timeout = "10s"
  }
}

# This file changes with each read, also when no value has changed. An Agent that has
# stopped, or that Vault does not answer, leaves it as it is. Nothing has to reload when
# it changes.
template {
  source               = "/etc/smvm-api/templates/read.env.ctmpl"
  destination          = "/var/lib/smvm-api/read.env"
  perms                = "0600"
  error_on_missing_key = true
}
