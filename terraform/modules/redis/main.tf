# Redis: presence, typing and rate limits, which expire by themselves. So nothing is written to disk: losing Redis
# whole degrades presence for the 30 s that a refresh takes, and never messages.

locals {
  names   = sort(keys(var.hosts))
  cluster = length(var.hosts) >= 3

  # Half of the memory; the seed's figure is 5 M users x 100 bytes = 500 MB in all.
  memory_mib = { for name, host in var.hosts : name => floor(host.memory_gib * 1024 / 2) }

  # Masters must be of different racks: the list goes round the racks, as redis-cli gives roles in order.
  racks   = distinct([for name in local.names : var.hosts[name].rack])
  in_rack = { for rack in local.racks : rack => [for name in local.names : var.hosts[name].address if var.hosts[name].rack == rack] }
  deepest = max(0, [for rack in local.racks : length(local.in_rack[rack])]...)
  order   = flatten([for round in range(local.deepest) : [for rack in local.racks : slice(local.in_rack[rack], min(round, length(local.in_rack[rack])), min(round + 1, length(local.in_rack[rack])))]])

  cli = "redis-cli --tls --cacert /etc/redis/tls/ca.pem --user operator --no-auth-warning"

  files = { for name, host in var.hosts : name => [
    {
      path = "/etc/redis/redis.conf", owner = "redis:redis", mode = "0640"
      content = templatefile("${path.module}/templates/redis.conf.tftpl", {
        host       = host
        cluster    = local.cluster
        memory_mib = local.memory_mib[name]
        io_threads = min(4, max(1, host.cores - 1))
      })
    },
    { path = "/etc/redis/users.acl", content = file("${path.module}/templates/users.acl"), owner = "redis:redis", mode = "0640" },
    { path = "/etc/redis/tls/node.pem", content = "@@secret:host_cert@@\n", owner = "root:redis", mode = "0640" },
    { path = "/etc/redis/tls/node.key", content = "@@secret:host_key@@\n", owner = "root:redis", mode = "0640" },
    { path = "/etc/redis/tls/ca.pem", content = "@@secret:ca@@\n", owner = "root:root", mode = "0644" },
    {
      path    = "/etc/default/prometheus-redis-exporter", owner = "root:root", mode = "0600"
      content = "ARGS=\"--web.listen-address=${host.address}:9121 --redis.addr=rediss://${host.address}:6379 --redis.user=monitor --tls-ca-cert-file=/etc/redis/tls/ca.pem\"\nREDIS_PASSWORD=@@secret:redis_monitor_password@@\n"
    },
  ] }
}
