# What the paths take is in docs/reference.md. Here it stands as there, with two rules,
# because the provider compares what is written with what is read: durations are numbers
# of seconds, and lists are lists.

variable "path" {
  description = "Where the engine is mounted. It cannot be changed afterwards."
  type        = string
  default     = "smvm"
}

variable "plugin" {
  description = "The plugin, whose file is in the plugin directory of every Vault server. With sha256 it is registered; command is the name of the file, by default NAME_VERSION as configure.sh copies it."
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
  description = "Fields of connections, by name. A password is needed only to make a connection: rotate-root replaces it at once, so leave it out afterwards."
  type        = any
  default     = {}
}

variable "roles" {
  description = "Fields of roles, by name."
  type        = any
  default     = {}
}

variable "secrets" {
  description = "Fields of secrets, by role/name. Make API keys with hash_only by hand: the provider drops the answer that has the key."
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
