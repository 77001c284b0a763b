output "by_name" {
  description = "Hosts by name."
  value       = local.by_name
}

output "by_role" {
  description = "Hosts by role, then by name."
  value       = local.by_role
}

output "addresses" {
  description = "IPv4 addresses by role, in the order of the names."
  value       = local.addresses
}

output "racks" {
  description = "Racks by role."
  value       = { for role, hosts in local.by_role : role => sort(distinct([for host in hosts : host.rack])) }
}

output "broker_ids" {
  description = "Number of each broker."
  value       = local.broker_ids
}

output "bootstrap" {
  description = "Kafka bootstrap servers."
  value       = [for address in local.addresses["kafka"] : "${address}:9092"]
}

output "edge_cores" {
  description = "Cores of all edge nodes together."
  value       = sum(concat([0], [for host in local.by_role["edge"] : host.cores]))
}
