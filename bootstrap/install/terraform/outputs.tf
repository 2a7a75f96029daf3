output "path" {
  description = "Where the engine is mounted."
  value       = var.path
  precondition {
    condition     = !can(regex("(period|overlap|interval|window|timeout|deadline|delay|notice|max_age|max_ttl)\":\"", jsonencode([var.config, var.connections, var.roles, var.secrets, var.checks, var.alerts, var.destinations])))
    error_message = "Give durations as numbers of seconds, as the engine returns them: 86400, not \"24h\"."
  }
}

output "creds" {
  description = "Path that the application of each role reads."
  value       = { for role in keys(var.roles) : role => "${var.path}/creds/${role}" }
}

output "policies" {
  description = "Names of the policies in Vault: of administrator, auditor, monitoring and operator, and of application-ROLE and verifier-ROLE for each role."
  value       = { for name, policy in vault_policy.smvm : name => policy.name }
}
