output "rulesets" {
  description = "nftables ruleset by host, for /etc/nftables.conf."
  value = { for host in var.hosts : host.name => templatefile("${path.module}/templates/nftables.conf.tftpl", {
    host  = host
    rules = local.rules[host.role]
  }) }
}

output "matrix" {
  description = "Open ports by role, as a table to read."
  value = { for role in local.roles : role => [
    for rule in local.rules[role] : "${rule.protocol}/${rule.port} from ${rule.sources}: ${rule.why}"
  ] }
}
