output "records" {
  description = "Every record: name, type, ttl, data. For a provider of your DNS, one resource for each."
  value       = local.records
}

output "zone" {
  description = "The zone as a file in the format of RFC 1035."
  value = templatefile("${path.module}/templates/zone.tftpl", {
    domain       = var.domain
    serial       = var.serial
    name_servers = var.name_servers
    records      = local.records
  })
}

output "edge_url" {
  description = "What clients are given."
  value       = "wss://${var.edge_name}.${var.domain}${var.edge_port == 443 ? "" : ":${var.edge_port}"}/v1/ws"
}
