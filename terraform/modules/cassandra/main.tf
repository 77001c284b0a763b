# Apache Cassandra 5. A node belongs to a rack, and copies go to different racks. TLS with certificates between
# nodes, TLS with a password for clients.

locals {
  names = sort(keys(var.hosts))
  racks = distinct([for name in local.names : var.hosts[name].rack])

  # The first node of each rack, three at most: seeds that survive one rack.
  seeds = slice([for rack in local.racks : [for name in local.names : var.hosts[name].address if var.hosts[name].rack == rack][0]], 0, min(3, length(local.racks)))

  # G1 up to 31 GiB (compressed pointers); the rest is page cache and off-heap memtables.
  heap_gib = { for name, host in var.hosts : name => min(31, max(1, floor(host.memory_gib / 3))) }

  replication = min(var.settings.replication, length(var.hosts))

  files = { for name, host in var.hosts : name => [
    {
      path = "/etc/cassandra/cassandra.yaml", owner = "root:cassandra", mode = "0640"
      content = templatefile("${path.module}/templates/cassandra.yaml.tftpl", {
        host     = host
        seeds    = local.seeds
        settings = var.settings
      })
    },
    {
      path    = "/etc/cassandra/cassandra-rackdc.properties", owner = "root:root", mode = "0644"
      content = "dc=${var.settings.datacenter}\nrack=${host.rack}\nprefer_local=true\n"
    },
    {
      path = "/etc/systemd/system/cassandra.service", owner = "root:root", mode = "0644"
      content = templatefile("${path.module}/templates/cassandra.service.tftpl", {
        host     = host
        heap_gib = local.heap_gib[name]
      })
    },
    { path = "/etc/cassandra/jmx.yml", content = file("${path.module}/templates/jmx.yml"), owner = "root:root", mode = "0644" },
    { path = "/etc/cassandra/tls/node.pem", content = "@@secret:host_key@@\n@@secret:host_cert@@\n", owner = "root:cassandra", mode = "0640" },
    { path = "/etc/cassandra/tls/ca.pem", content = "@@secret:ca@@\n", owner = "root:root", mode = "0644" },
    {
      path = "/etc/cassandra/bootstrap.cql", owner = "root:root", mode = "0600"
      content = templatefile("${path.module}/templates/bootstrap.cql.tftpl", {
        settings    = var.settings
        replication = local.replication
      })
    },
    {
      path    = "/etc/cassandra/cqlshrc", owner = "root:root", mode = "0600"
      content = "[authentication]\nusername = operator\npassword = @@secret:cassandra_operator_password@@\n[connection]\nhostname = ${host.address}\nssl = true\n[ssl]\ncertfile = /etc/cassandra/tls/ca.pem\nvalidate = true\n"
    },
  ] }
}
