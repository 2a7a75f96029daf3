# The role of the quick start, with two more secrets, a check and an alert.

variable "plugin_sha256" {
  description = "SHA-256 of the plugin's file, as in SHA256SUMS of its release."
  type        = string
}

variable "postgresql" {
  description = "Address of PostgreSQL. Run bootstrap/install/sql/postgresql.sql there first."
  type        = object({ host = string, port = optional(number, 5432), sslmode = optional(string, "verify-full") })
}

variable "smvm_admin_password" {
  description = "Password of smvm_admin, for the first apply only."
  type        = string
  sensitive   = true
  default     = null
}

variable "application_url" {
  description = "Address of the application. The check sends its requests to /api/test there."
  type        = string
}

variable "alert_url" {
  description = "Address to which the engine posts alerts."
  type        = string
  sensitive   = true
}

variable "alert_key" {
  description = "Key with which the engine signs alerts."
  type        = string
  sensitive   = true
}

variable "rotation_period" {
  description = "Seconds between two rotations."
  type        = number
  default     = 2592000
}

variable "usernames" {
  description = "The two database users of the application, in either order."
  type        = list(string)
  default     = ["orders_a", "orders_b"]
}

module "smvm" {
  source = "../"

  plugin = { version = "v0.1.0", sha256 = var.plugin_sha256 }
  config = {
    environment    = "production"
    outbound_hosts = distinct([for url in [var.application_url, nonsensitive(var.alert_url)] : regex("^https?://([^/:]+)", url)[0]])
  }
  connections = {
    main = merge(var.postgresql, {
      database      = "orders"
      username      = "smvm_admin"
      password      = var.smvm_admin_password
      allowed_roles = ["default"]
    })
  }
  roles = {
    default = { rotation_period = var.rotation_period, overlap = 43200 }
  }
  secrets = {
    "default/db" = {
      type                    = "database"
      connection              = "main"
      rotation_strategy       = "alternating_users"
      usernames               = var.usernames
      verification_statements = ["SELECT 1"]
    }
    "default/jwt"    = { type = "jwt", algorithm = "ES256" }
    "default/api"    = { type = "api_key", prefix = "orders" }
    "default/cookie" = { type = "random", length = 48 }
  }
  checks = {
    "default/key" = {
      url     = "${var.application_url}/api/test"
      headers = ["X-API-Key: {{api_key}}"]
      delay   = 1
    }
  }
  alerts = {
    ops = { type = "webhook", url = var.alert_url, key = var.alert_key, events = ["rotation_failed", "needs_attention"] }
  }
}

output "creds" {
  value = module.smvm.creds
}
