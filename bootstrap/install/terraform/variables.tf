# docs/reference.md lists the fields of each path. Write durations as numbers of seconds
# and lists as lists, because the provider compares what you write with what the engine
# returns.

variable "path" {
  description = "Path of the mount. It cannot be changed after the first apply."
  type        = string
  default     = "smvm"
}

variable "plugin" {
  description = "Version of the plugin, whose file must be in the plugin directory of every Vault server. If sha256 is set, the module registers the plugin. command is the name of the file; by default NAME_VERSION, as configure.sh calls its copy."
  type = object({
    version = string
    sha256  = optional(string)
    command = optional(string)
    name    = optional(string, "vault-plugin-secrets-smvm")
  })
}

variable "config" {
  description = "Fields of config."
  type        = any
  default     = {}
}

variable "connections" {
  description = "Fields of connections, by name. Pass a password only for the apply that creates the connection: rotate-root replaces the password at once."
  type        = any
  default     = {}
}

variable "roles" {
  description = "Fields of roles, by name."
  type        = any
  default     = {}
}

variable "secrets" {
  description = "Fields of secrets, by role/name. Create API keys with hash_only by vault write: the provider drops the response, which contains the key."
  type        = any
  default     = {}
}

variable "checks" {
  description = "Fields of checks, by role/name."
  type        = any
  default     = {}
}

variable "alerts" {
  description = "Fields of alerts, by name."
  type        = any
  default     = {}
}

variable "destinations" {
  description = "Fields of destinations, by name."
  type        = any
  default     = {}
}
