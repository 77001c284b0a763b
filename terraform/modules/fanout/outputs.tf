output "hosts" {
  description = "What the role makes of each host, for the module `host`."
  value = { for name, host in var.hosts : name => {
    packages    = []
    artifacts   = [{ name = "hawser-fanout", to = "/usr/local/bin/hawser-fanout", unpack = false }]
    files       = local.files[name]
    directories = [{ path = "/var/lib/hawser", owner = "hawser:hawser", mode = "0750" }]
    services    = ["hawser-fanout.service"]
    listens     = [{ what = "admin port", address = host.address, port = local.admin }]
    bootstrap   = []
    secrets     = var.cluster.secrets
    user        = "hawser"
    data_mount  = null
  } }
}

output "flows" {
  description = "Who may connect to a fanout host: its API is on loopback, clients use the edge's."
  value = [
    { to = "fanout", from = ["monitoring"], port = local.admin, why = "metrics, health, readiness", tracked = true },
  ]
}

output "metrics_port" {
  description = "Port of /metrics."
  value       = local.admin
}
