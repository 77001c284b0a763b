# One nftables ruleset per host, from the flow matrix: what no flow names is closed.

locals {
  roles = distinct([for host in var.hosts : host.role])

  # A source is a role, `clients`, `admins`, or `hosts` (every host of the cluster).
  v4 = merge(
    { for role in local.roles : role => sort([for host in var.hosts : host.address if host.role == role]) },
    {
      clients = sort([for cidr in var.client_cidrs : cidr if !strcontains(cidr, ":")])
      admins  = sort([for cidr in var.admin_cidrs : cidr if !strcontains(cidr, ":")])
      hosts   = sort([for host in var.hosts : host.address])
    },
  )
  v6 = merge(
    { for role in local.roles : role => sort([for host in var.hosts : host.address6 if host.role == role && host.address6 != null]) },
    {
      clients = sort([for cidr in var.client_cidrs : cidr if strcontains(cidr, ":")])
      admins  = sort([for cidr in var.admin_cidrs : cidr if strcontains(cidr, ":")])
      hosts   = sort([for host in var.hosts : host.address6 if host.address6 != null])
    },
  )

  rules = { for role in local.roles : role => [
    for flow in var.flows : {
      port     = flow.port
      protocol = flow.protocol
      why      = flow.why
      tracked  = flow.tracked
      sources  = join(", ", flow.from)
      any      = contains(flow.from, "clients") && contains(var.client_cidrs, "0.0.0.0/0")
      v4       = distinct(flatten([for source in flow.from : lookup(local.v4, source, [])]))
      v6       = distinct(flatten([for source in flow.from : lookup(local.v6, source, [])]))
    } if flow.to == role
  ] }
}
