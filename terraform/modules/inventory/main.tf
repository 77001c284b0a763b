# From the list of hosts: who has which role, and the address lists that engines and clients are given.

locals {
  by_name = { for host in var.hosts : host.name => host }
  roles   = ["edge", "fanout", "kafka", "cassandra", "redis", "postgres", "monitoring"]
  by_role = { for role in local.roles : role => { for host in var.hosts : host.name => host if host.role == role } }

  addresses = { for role in local.roles : role => [for name in sort(keys(local.by_role[role])) : local.by_role[role][name].address] }

  # Numbers of brokers are their places in the sorted list of names, so they do not change when other roles do.
  # A broker that is added must sort after those that are there: README, "Growing".
  broker_ids = { for index, name in sort(keys(local.by_role["kafka"])) : name => index + 1 }
}
