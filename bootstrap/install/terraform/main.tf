# Registers the plugin in Vault's catalog, mounts and configures the engine, and writes
# policies. docs/operations.md, "OpenTofu and Terraform", says how to use this module, and
# example/ is a whole configuration.
#
# Reading a path returns more fields than were written to it, and never a password. With
# ignore_absent_fields, the provider compares only the fields that a resource writes.

terraform {
  required_version = ">= 1.3"
  required_providers {
    vault = { source = "hashicorp/vault" }
  }
}

locals {
  prefix = replace(var.path, "/", "-")
  # text has the files of policies, with the path of this mount. roles has the policies of
  # each role, as enroll.sh writes them: only that of the role default allows the path creds
  # without the name of a role.
  text = {
    for file in fileset("${path.module}/../policies", "*.hcl") : trimsuffix(file, ".hcl") =>
    replace(replace(file("${path.module}/../policies/${file}"), "/(?m)^#.*\\n/", ""), "\"smvm/", "\"${var.path}/")
  }
  bare = "/(?ms)^path \"${var.path}/creds\" \\{.*?^\\}\\n/"
  roles = merge([
    for role in keys(var.roles) : {
      "application-${role}" = replace(role == "default" ? local.text.application : replace(local.text.application, local.bare, ""), "default", role)
      "verifier-${role}"    = replace(local.text.verifier, "default", role)
    }
  ]...)
}

# Reading this path returns only entries without a version, and the provider can't delete
# an entry that has one. So a plan shows no change of the entry, and destroy leaves it.
resource "vault_generic_endpoint" "plugin" {
  count = var.plugin.sha256 == null ? 0 : 1
  path  = "sys/plugins/catalog/secret/${var.plugin.name}"
  data_json = jsonencode({
    version = var.plugin.version
    sha256  = var.plugin.sha256
    command = coalesce(var.plugin.command, "${var.plugin.name}_${var.plugin.version}")
  })
  disable_read   = true
  disable_delete = true
}

# The resource tune has the settings that can change later, because not every version of
# the provider has them in vault_mount.
resource "vault_mount" "smvm" {
  path       = var.path
  type       = var.plugin.name
  depends_on = [vault_generic_endpoint.plugin]
  lifecycle {
    ignore_changes = all
  }
}

# Verifiers send and read these headers when they fetch public keys.
resource "vault_generic_endpoint" "tune" {
  path = "sys/mounts/${vault_mount.smvm.path}/tune"
  data_json = jsonencode({
    plugin_version              = var.plugin.version
    passthrough_request_headers = ["Accept", "If-None-Match"]
    allowed_response_headers    = ["ETag", "Vary"]
  })
  ignore_absent_fields = true
  disable_delete       = true
  depends_on           = [vault_generic_endpoint.plugin]
}

# A mount runs its new version only after a reload.
resource "vault_generic_endpoint" "reload" {
  path           = "sys/plugins/reload/backend"
  data_json      = jsonencode({ mounts = ["${var.path}/"] })
  disable_read   = true
  disable_delete = true
  lifecycle {
    replace_triggered_by = [vault_generic_endpoint.tune]
  }
}

resource "vault_generic_endpoint" "config" {
  count                = length(var.config) == 0 ? 0 : 1
  path                 = "${var.path}/config"
  data_json            = jsonencode({ for field, value in var.config : field => value if value != null })
  ignore_absent_fields = true
  depends_on           = [vault_generic_endpoint.reload]
}

resource "vault_generic_endpoint" "connection" {
  for_each             = var.connections
  path                 = "${var.path}/connections/${each.key}"
  data_json            = jsonencode({ for field, value in each.value : field => value if value != null })
  ignore_absent_fields = true
  depends_on           = [vault_generic_endpoint.reload]
}

# Runs once, right after a connection is created. From then on, the password in the
# configuration and in the state no longer works.
resource "vault_generic_endpoint" "rotate_root" {
  for_each       = var.connections
  path           = "${var.path}/rotate-root/${each.key}"
  data_json      = "{}"
  disable_read   = true
  disable_delete = true
  depends_on     = [vault_generic_endpoint.connection]
}

resource "vault_generic_endpoint" "destination" {
  for_each             = var.destinations
  path                 = "${var.path}/destinations/${each.key}"
  data_json            = jsonencode({ for field, value in each.value : field => value if value != null })
  ignore_absent_fields = true
  depends_on           = [vault_generic_endpoint.config, vault_generic_endpoint.reload]
}

resource "vault_generic_endpoint" "role" {
  for_each             = var.roles
  path                 = "${var.path}/roles/${each.key}"
  data_json            = jsonencode({ for field, value in each.value : field => value if value != null && field != "destinations" })
  ignore_absent_fields = true
  depends_on           = [vault_generic_endpoint.config, vault_generic_endpoint.destination, vault_generic_endpoint.reload]
}

resource "vault_generic_endpoint" "secret" {
  for_each             = var.secrets
  path                 = "${var.path}/secrets/${each.key}"
  data_json            = jsonencode({ for field, value in each.value : field => value if value != null })
  ignore_absent_fields = true
  depends_on           = [vault_generic_endpoint.role, vault_generic_endpoint.rotate_root]
}

# Written after the secrets, because destinations get the values of these.
resource "vault_generic_endpoint" "role_destinations" {
  for_each             = { for role, fields in var.roles : role => fields.destinations if contains(keys(fields), "destinations") }
  path                 = "${var.path}/roles/${each.key}"
  data_json            = jsonencode({ destinations = each.value })
  ignore_absent_fields = true
  disable_delete       = true
  depends_on           = [vault_generic_endpoint.secret]
}

resource "vault_generic_endpoint" "check" {
  for_each             = var.checks
  path                 = "${var.path}/checks/${each.key}"
  data_json            = jsonencode({ for field, value in each.value : field => value if value != null })
  ignore_absent_fields = true
  depends_on           = [vault_generic_endpoint.secret]
}

resource "vault_generic_endpoint" "alert" {
  for_each             = var.alerts
  path                 = "${var.path}/alerts/${each.key}"
  data_json            = jsonencode({ for field, value in each.value : field => value if value != null })
  ignore_absent_fields = true
  depends_on           = [vault_generic_endpoint.config, vault_generic_endpoint.reload]
}

resource "vault_policy" "smvm" {
  for_each = merge({ for name in ["administrator", "auditor", "monitoring", "operator"] : name => local.text[name] }, local.roles)
  name     = "${local.prefix}-${each.key}"
  policy   = each.value
}
