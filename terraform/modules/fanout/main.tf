# Fanout: hawser-fanout, which judges what was appended to chat-messages and plans its delivery.

locals {
  admin = 9091

  files = { for name, host in var.hosts : name => concat(var.cluster.engine_files, [
    {
      path = "/etc/hawser/fanout.toml", owner = "root:hawser", mode = "0640"
      content = templatefile("${path.module}/templates/fanout.toml.tftpl", {
        host    = host
        admin   = local.admin
        cluster = var.cluster
        threads = min(64, max(1, host.cores - 1))
      })
    },
    { path = "/etc/systemd/system/hawser-fanout.service", content = file("${path.module}/../../../kernel-tuning/systemd/hawser-fanout.service"), owner = "root:root", mode = "0644" },
  ]) }
}
