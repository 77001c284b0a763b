# Prometheus and Alertmanager of Debian, Grafana beside them with the dashboard of this folder.

locals {
  prometheus = templatefile("${path.module}/templates/prometheus.yml.tftpl", {
    settings  = var.settings
    jobs      = [for job in sort(keys(var.targets)) : merge(var.targets[job], { job = job })]
    alerts_at = sort([for host in var.hosts : "${host.address}:9093"])
  })
  rules = templatefile("${path.module}/templates/rules.yml.tftpl", { settings = var.settings })

  files = { for name, host in var.hosts : name => [
    { path = "/etc/prometheus/prometheus.yml", content = local.prometheus, owner = "root:root", mode = "0644" },
    { path = "/etc/prometheus/rules/hawser.yml", content = local.rules, owner = "root:root", mode = "0644" },
    {
      path    = "/etc/prometheus/alertmanager.yml", owner = "root:root", mode = "0644"
      content = templatefile("${path.module}/templates/alertmanager.yml.tftpl", { settings = var.settings })
    },
    {
      path    = "/etc/default/prometheus", owner = "root:root", mode = "0644"
      content = "ARGS=\"--web.listen-address=${host.address}:9090 --storage.tsdb.retention.time=${var.settings.retention_days}d\"\n"
    },
    {
      path    = "/etc/default/prometheus-alertmanager", owner = "root:root", mode = "0644"
      content = "ARGS=\"--web.listen-address=${host.address}:9093 --cluster.listen-address=\"\n"
    },
    { path = "/etc/grafana/provisioning/datasources/hawser.yaml", owner = "root:root", mode = "0644", content = yamlencode({
      apiVersion  = 1
      datasources = [{ name = "Prometheus", uid = "prometheus", type = "prometheus", access = "proxy", url = "http://${host.address}:9090", isDefault = true }]
    }) },
    { path = "/etc/grafana/provisioning/dashboards/hawser.yaml", owner = "root:root", mode = "0644", content = yamlencode({
      apiVersion = 1
      providers  = [{ name = "hawser", type = "file", disableDeletion = true, options = { path = "/etc/grafana/dashboards" } }]
    }) },
    { path = "/etc/grafana/dashboards/hawser.json", owner = "root:root", mode = "0644", content = file("${path.module}/templates/dashboard.json") },
    {
      path    = "/etc/grafana/grafana.ini", owner = "root:grafana", mode = "0640"
      content = "[server]\nhttp_addr = ${host.address}\nhttp_port = 3000\nprotocol = https\ncert_file = /etc/grafana/tls/node.pem\ncert_key = /etc/grafana/tls/node.key\n[paths]\ndata = /var/lib/grafana\nlogs = /var/lib/grafana/log\nprovisioning = /etc/grafana/provisioning\n[security]\nadmin_password = @@secret:grafana_admin_password@@\n[users]\nallow_sign_up = false\n[analytics]\nreporting_enabled = false\ncheck_for_updates = false\n"
    },
    { path = "/etc/grafana/tls/node.pem", content = "@@secret:host_cert@@\n", owner = "root:grafana", mode = "0640" },
    { path = "/etc/grafana/tls/node.key", content = "@@secret:host_key@@\n", owner = "root:grafana", mode = "0640" },
    { path = "/etc/systemd/system/grafana.service", content = file("${path.module}/templates/grafana.service"), owner = "root:root", mode = "0644" },
  ] }
}
