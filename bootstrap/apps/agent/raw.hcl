# For the Agent of agent.hcl: it also writes .env.raw, for readers that take quotes
# for a part of the value.
#
#   vault agent -config=agent.hcl -config=raw.hcl

template {
  source               = "/etc/smvm-api/templates/env.raw.ctmpl"
  destination          = "/var/lib/smvm-api/.env.raw"
  perms                = "0600"
  error_on_missing_key = true
  exec {
    command = ["/bin/sh", "-c", "touch /run/smvm-api/changed || :"]
    timeout = "10s"
  }
}
