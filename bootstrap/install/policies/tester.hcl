# Tests on an application's machine (bootstrap/apps/agent/tested.sh) roll back the
# version that has failed them, and may do nothing else: with if_version, the engine
# undoes the rotation that made the current version, and never a rollback. This is for
# the role "default"; for another put its name in place of default.

path "smvm/rollback/default" {
  capabilities        = ["update"]
  required_parameters = ["if_version", "reason"]
  allowed_parameters = {
    "if_version" = []
    "reason"     = []
    "wait"       = []
  }
}
