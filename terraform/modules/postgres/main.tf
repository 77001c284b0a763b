# PostgreSQL 15 of Debian: one primary, the others stream from it. A failover is an operator's step (README).

locals {
  names    = sort(keys(var.hosts))
  primary  = var.settings.primary == "" ? local.names[0] : var.settings.primary
  standbys = [for name in local.names : name if name != local.primary]
  # With two standbys, one may be away and a commit still has a second copy; with one, its absence would stop every write.
  synchronous = length(local.standbys) >= 2

  data = "/var/lib/postgresql/15/main"

  files = { for name, host in var.hosts : name => [
    {
      path = "/etc/postgresql/15/main/conf.d/hawser.conf", owner = "root:postgres", mode = "0640"
      content = templatefile("${path.module}/templates/postgresql.conf.tftpl", {
        host        = host
        connections = var.settings.connections
        memory_mib  = host.memory_gib * 1024
        # On a standby too: it may become the primary. One that has no standbys of its own waits for nobody, see README.
        synchronous = local.synchronous && name == local.primary
        slot        = replace(name, "-", "_")
      })
    },
    {
      path = "/etc/postgresql/15/main/pg_hba.conf", owner = "root:postgres", mode = "0640"
      content = templatefile("${path.module}/templates/pg_hba.conf.tftpl", {
        database = var.settings.database
        clients  = sort(flatten(values(var.settings.client_roles)))
        peers    = [for peer in local.names : var.hosts[peer].address]
      })
    },
    { path = "/etc/postgresql/tls/node.pem", content = "@@secret:host_cert@@\n", owner = "root:postgres", mode = "0640" },
    { path = "/etc/postgresql/tls/node.key", content = "@@secret:host_key@@\n", owner = "root:postgres", mode = "0640" },
    { path = "/etc/postgresql/tls/ca.pem", content = "@@secret:ca@@\n", owner = "root:root", mode = "0644" },
    { path = "/etc/postgresql/replication.pgpass", content = "*:*:*:replicator:@@secret:postgres_replication_password@@\n", owner = "postgres:postgres", mode = "0600" },
    { path = "/etc/postgresql/bootstrap.sql", content = templatefile("${path.module}/templates/bootstrap.sql.tftpl", { database = var.settings.database, slots = [for standby in local.standbys : replace(standby, "-", "_")] }), owner = "root:postgres", mode = "0640" },
    {
      path    = "/etc/default/prometheus-postgres-exporter", owner = "root:root", mode = "0600"
      content = "ARGS=\"--web.listen-address=${host.address}:9187\"\nDATA_SOURCE_NAME=\"user=monitor password=@@secret:postgres_monitor_password@@ host=127.0.0.1 dbname=postgres sslmode=require\"\n"
    },
  ] }

  as_postgres = "runuser -u postgres --"
}
