# The edge: hawser-gateway, which holds clients' sessions and serves the API beside them.

locals {
  port  = 443
  admin = 9090

  # Cores that the reactors leave to the kernel, the Kafka client's threads and the control thread.
  reserved = { for name, host in var.hosts : name => (
    var.cluster.reserved_cores != null ? min(var.cluster.reserved_cores, host.cores - 1) : host.cores <= 2 ? 0 : host.cores <= 16 ? 1 : 2
  ) }

  # Half of the memory for sessions; the rest is replay, Kafka's prefetch, the page cache and the kernel.
  max_sessions = { for name, host in var.hosts : name => min(10000000, floor(host.memory_gib * 1048576 / 2 / var.cluster.session_kib)) }

  files = { for name, host in var.hosts : name => concat(var.cluster.engine_files, [
    {
      path = "/etc/hawser/gateway.toml", owner = "root:hawser", mode = "0640"
      content = templatefile("${path.module}/templates/gateway.toml.tftpl", {
        host         = host
        port         = local.port
        admin        = local.admin
        max_sessions = local.max_sessions[name]
        replay_mib   = min(4096, floor(host.memory_gib * 1024 / 8))
        bodies_mib   = min(2048, floor(host.memory_gib * 1024 / 16))
        cluster      = var.cluster
        tls_names    = concat(["${name}.${var.cluster.domain}", "${var.cluster.client_name}.${var.cluster.domain}"], var.cluster.public_tls_names)
      })
    },
    { path = "/etc/systemd/system/hawser-gateway.service", content = file("${path.module}/../../../kernel-tuning/systemd/hawser-gateway.service"), owner = "root:root", mode = "0644" },
    {
      path    = "/etc/systemd/system/hawser-gateway.service.d/10-host.conf", owner = "root:root", mode = "0644"
      content = "[Service]\nCPUAffinity=${local.reserved[name]}-${host.cores - 1}\n"
    },
    { path = "/etc/hawser/tls/edge.pem", content = "@@secret:edge_cert@@\n", owner = "root:hawser", mode = "0640" },
    { path = "/etc/hawser/tls/edge.key", content = "@@secret:edge_key@@\n", owner = "root:hawser", mode = "0640" },
    { path = "/etc/hawser/keys/cluster_secret", content = "@@secret:cluster_secret@@\n", owner = "root:hawser", mode = "0640" },
  ]) }
}
