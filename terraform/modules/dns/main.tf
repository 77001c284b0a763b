# Records of a cluster: edges for clients (A, AAAA, SRV), every host by name for people and certificates.

locals {
  edges = [for name in sort([for host in var.hosts : host.name if host.role == "edge"]) :
  one([for host in var.hosts : host if host.name == name])]
  public  = { for host in local.edges : host.name => coalesce(host.public_address, host.address) }
  public6 = { for host in local.edges : host.name => host.address6 if host.address6 != null }

  records = concat(
    [for name in sort([for host in var.hosts : host.name]) : {
      name = name, type = "A", ttl = 3600
      data = lookup(local.public, name, one([for host in var.hosts : host.address if host.name == name]))
    }],
    [for host in var.hosts : { name = host.name, type = "AAAA", ttl = 3600, data = host.address6 } if host.address6 != null],
    # A short life: a node that is taken out is gone from clients' answers within a minute.
    [for name, address in local.public : { name = var.edge_name, type = "A", ttl = 60, data = address }],
    [for name, address in local.public6 : { name = var.edge_name, type = "AAAA", ttl = 60, data = address }],
    [for name in keys(local.public) : {
      name = "_hawser._tcp", type = "SRV", ttl = 60, data = "10 10 ${var.edge_port} ${name}.${var.domain}."
    }],
  )
}
