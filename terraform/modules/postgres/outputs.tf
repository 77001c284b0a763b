output "hosts" {
  description = "What the role makes of each host, for the module `host`."
  value = { for name, host in var.hosts : name => {
    packages    = ["postgresql-15", "prometheus-postgres-exporter"]
    artifacts   = []
    files       = local.files[name]
    directories = [{ path = "/var/lib/postgresql", owner = "postgres:postgres", mode = "0755" }]
    services    = ["postgresql@15-main.service", "prometheus-postgres-exporter.service"]
    listens = [
      { what = "clients' port", address = host.address, port = 5432 },
      { what = "metrics", address = host.address, port = 9187 },
    ]
    # The primary's step first: standbys need its user.
    bootstrap = name == local.primary ? [{
      name = "roles and database of Postgres"
      done = "${local.as_postgres} psql -qtAc \"select 1 from pg_database where datname = '${var.settings.database}'\" | grep -qx 1"
      do   = "${local.as_postgres} psql -qv ON_ERROR_STOP=1 -f /etc/postgresql/bootstrap.sql"
      }] : [{
      name = "this standby's copy of ${local.primary}"
      done = "test -f ${local.data}/standby.signal"
      do   = "systemctl stop postgresql@15-main; rm -rf ${local.data}.new; ${local.as_postgres} env PGPASSFILE=/etc/postgresql/replication.pgpass pg_basebackup -D ${local.data}.new -R -X stream -S ${replace(name, "-", "_")} -d 'host=${var.hosts[local.primary].address} user=replicator passfile=/etc/postgresql/replication.pgpass sslmode=verify-ca sslrootcert=/etc/postgresql/tls/ca.pem application_name=${replace(name, "-", "_")}'; rm -rf ${local.data}; mv ${local.data}.new ${local.data}; systemctl start postgresql@15-main"
    }]
    secrets    = ["ca", "host_cert", "host_key", "postgres_password", "postgres_replication_password", "postgres_monitor_password"]
    user       = ""
    data_mount = "/var/lib/postgresql"
  } }
}

output "flows" {
  description = "Who may connect to Postgres."
  value = [
    { to = "postgres", from = ["edge", "fanout"], port = 5432, why = "directory: users, groups, media objects", tracked = true },
    { to = "postgres", from = ["postgres"], port = 5432, why = "replication", tracked = true },
    { to = "postgres", from = ["monitoring"], port = 9187, why = "metrics", tracked = true },
  ]
}

output "address" {
  description = "What clients are given: the primary."
  value       = "${var.hosts[local.primary].address}:5432"
}

output "metrics_port" {
  description = "Port of the exporter."
  value       = 9187
}
