output "hosts" {
  description = "What the role makes of each host, for the module `host`."
  value = { for name, host in var.hosts : name => {
    packages    = ["prometheus", "prometheus-alertmanager"]
    artifacts   = [{ name = "grafana", to = "/opt/grafana", unpack = true }]
    files       = local.files[name]
    directories = [{ path = "/var/lib/grafana", owner = "grafana:grafana", mode = "0750" }]
    services    = ["prometheus.service", "prometheus-alertmanager.service", "grafana.service"]
    listens = [
      { what = "Prometheus", address = host.address, port = 9090 },
      { what = "Alertmanager", address = host.address, port = 9093 },
      { what = "Grafana", address = host.address, port = 3000 },
    ]
    bootstrap  = []
    secrets    = ["host_cert", "host_key", "grafana_admin_password"]
    user       = "grafana"
    data_mount = "/var/lib/prometheus"
  } }
}

output "flows" {
  description = "Who may connect to monitoring."
  value = concat(
    [{ to = "monitoring", from = ["admins"], port = 3000, why = "Grafana, for operators", tracked = true }],
    length(var.hosts) > 1 ? [{ to = "monitoring", from = ["monitoring"], port = 9093, why = "alerts of each to each", tracked = true }] : [],
  )
}

output "prometheus" {
  description = "prometheus.yml."
  value       = local.prometheus
}

output "rules" {
  description = "Alert rules."
  value       = local.rules
}
