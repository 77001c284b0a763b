output "user_data" {
  description = "cloud-init user-data by host. Without secrets."
  value       = { for name, host in module.host : name => host.user_data }
}

output "inventory" {
  description = "Hosts as the scripts of terraform/ read them."
  value = { for host in var.hosts : host.name => {
    address = host.address
    role    = host.role
    names   = concat(["${host.name}.${var.cluster.domain}"], host.role == "edge" ? concat(["${var.edge.name}.${var.cluster.domain}"], var.edge.tls_names) : [])
    secrets = module.host[host.name].secrets
  } }
}

output "rulesets" {
  description = "nftables ruleset by host."
  value       = module.firewall.rulesets
}

output "open_ports" {
  description = "Open ports by role: from whom, and why."
  value       = module.firewall.matrix
}

output "zone" {
  description = "The DNS zone as a file."
  value       = module.dns.zone
}

output "records" {
  description = "The DNS records one by one, for a provider of your DNS."
  value       = module.dns.records
}

output "edge_url" {
  description = "What clients are given."
  value       = module.dns.edge_url
}

output "files" {
  description = "Every file of every host before secrets are filled in, by host and path."
  value       = { for name, host in module.host : name => host.files }
}

output "capacity" {
  description = "What the hosts carry, and what the targets need."
  value       = local.capacity
}

output "secret_files" {
  description = "Contents of /etc/hawser/secrets by host; `terraform/deliver-secrets` reads it."
  sensitive   = true
  value = var.secrets == null ? {} : { for name, host in module.host : name => {
    for secret in host.secrets : secret => (
      secret == "host_cert" ? var.secrets.host_certs[name] :
      secret == "host_key" ? var.secrets.host_keys[name] :
      lookup(merge({ for key, value in var.secrets : key => value if !startswith(key, "host_") }, {}), secret, "")
    )
  } }
}
