# Apache Kafka in KRaft mode, every broker a controller too. Brokers speak TLS with each other, with certificates
# on both sides; clients in the clear within the cluster's network unless `client_tls` is set.

locals {
  voters = join(",", [for name in sort(keys(var.hosts)) : "${var.broker_ids[name]}@${var.hosts[name].address}:9093"])

  # The page cache is Kafka's cache: a small heap, the rest for it.
  heap_gib = { for name, host in var.hosts : name => min(8, max(1, floor(host.memory_gib / 8))) }

  files = { for name, host in var.hosts : name => [
    {
      path = "/etc/kafka/server.properties", owner = "root:kafka", mode = "0640"
      content = templatefile("${path.module}/templates/server.properties.tftpl", {
        host     = host
        id       = var.broker_ids[name]
        voters   = local.voters
        settings = var.settings
        brokers  = length(var.hosts)
        threads  = host.cores
      })
    },
    {
      path = "/etc/systemd/system/kafka.service", owner = "root:root", mode = "0644"
      content = templatefile("${path.module}/templates/kafka.service.tftpl", {
        host       = host
        heap_gib   = local.heap_gib[name]
        cluster_id = var.settings.cluster_id
      })
    },
    { path = "/etc/kafka/jmx.yml", content = file("${path.module}/templates/jmx.yml"), owner = "root:root", mode = "0644" },
    # One PEM file with key and certificate, as Kafka wants it.
    { path = "/etc/kafka/tls/broker.pem", content = "@@secret:host_key@@\n@@secret:host_cert@@\n", owner = "root:kafka", mode = "0640" },
    { path = "/etc/kafka/tls/ca.pem", content = "@@secret:ca@@\n", owner = "root:root", mode = "0644" },
  ] }
}
