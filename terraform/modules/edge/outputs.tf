output "hosts" {
  description = "What the role makes of each host, for the module `host`."
  value = { for name, host in var.hosts : name => {
    packages    = []
    artifacts   = [{ name = "hawser-gateway", to = "/usr/local/bin/hawser-gateway", unpack = false }]
    files       = local.files[name]
    directories = [{ path = "/var/lib/hawser", owner = "hawser:hawser", mode = "0750" }]
    services    = ["hawser-gateway.service"]
    listens = [
      { what = "clients' port", address = host.address, port = local.port },
      { what = "admin port", address = host.address, port = local.admin },
    ]
    bootstrap  = []
    secrets    = concat(["edge_cert", "edge_key", "cluster_secret"], var.cluster.secrets)
    user       = "hawser"
    data_mount = null
  } }
}

output "flows" {
  description = "Who may connect to an edge node."
  value = [
    { to = "edge", from = ["clients"], port = local.port, why = "clients: WSS and API", tracked = false },
    { to = "edge", from = ["monitoring"], port = local.admin, why = "metrics, health, readiness", tracked = true },
  ]
}

output "max_sessions" {
  description = "Sessions that each node holds at most."
  value       = local.max_sessions
}

output "metrics_port" {
  description = "Port of /metrics."
  value       = local.admin
}
