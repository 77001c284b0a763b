output "hosts" {
  description = "What the role makes of each host, for the module `host`."
  value = { for name, host in var.hosts : name => {
    packages    = ["redis-server", "redis-tools", "prometheus-redis-exporter"]
    artifacts   = []
    files       = local.files[name]
    directories = []
    services    = ["redis-server.service", "prometheus-redis-exporter.service"]
    listens = [
      { what = "clients' port (TLS)", address = host.address, port = 6379 },
      { what = "metrics", address = host.address, port = 9121 },
    ]
    bootstrap = name != local.names[0] || !local.cluster ? [] : [{
      name = "the Redis Cluster"
      done = "export REDISCLI_AUTH=$(cat /etc/hawser/secrets/redis_operator_password); ${local.cli} -h ${host.address} cluster info | grep -q cluster_state:ok"
      do   = "export REDISCLI_AUTH=$(cat /etc/hawser/secrets/redis_operator_password); ${local.cli} --cluster create ${join(" ", [for address in local.order : "${address}:6379"])} --cluster-replicas ${var.settings.replicas} --cluster-yes"
    }]
    secrets    = ["ca", "host_cert", "host_key", "redis_password", "redis_operator_password", "redis_monitor_password"]
    user       = ""
    data_mount = null
  } }
}

output "flows" {
  description = "Who may connect to Redis."
  value = concat(
    [
      { to = "redis", from = ["edge", "fanout"], port = 6379, why = "presence, typing, rate limits", tracked = true },
      { to = "redis", from = ["redis"], port = 6379, why = "replicas and the cluster's bootstrap", tracked = true },
      { to = "redis", from = ["monitoring"], port = 9121, why = "metrics", tracked = true },
    ],
    local.cluster ? [{ to = "redis", from = ["redis"], port = 16379, why = "cluster bus", tracked = true }] : [],
  )
}

output "servers" {
  description = "What clients are given."
  value       = [for name in local.names : "${var.hosts[name].address}:6379"]
}

output "cluster" {
  description = "Whether it is a Redis Cluster."
  value       = local.cluster
}

output "create_order" {
  description = "Addresses in the order in which the cluster is made."
  value       = local.order
}

output "metrics_port" {
  description = "Port of the exporter."
  value       = 9121
}
