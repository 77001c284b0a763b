output "hosts" {
  description = "What the role makes of each host, for the module `host`."
  value = { for name, host in var.hosts : name => {
    packages = ["openjdk-17-jre-headless"]
    artifacts = [
      { name = "cassandra", to = "/opt/cassandra", unpack = true },
      { name = "jmx-exporter", to = "/opt/jmx-exporter/jmx-exporter.jar", unpack = false },
    ]
    files       = local.files[name]
    directories = [{ path = "/var/lib/cassandra", owner = "cassandra:cassandra", mode = "0750" }, { path = "/var/log/cassandra", owner = "cassandra:cassandra", mode = "0750" }]
    services    = ["cassandra.service"]
    listens = [
      { what = "clients' port", address = host.address, port = 9042 },
      { what = "port between nodes", address = host.address, port = 7000 },
      { what = "metrics", address = host.address, port = 7072 },
    ]
    # Once for the cluster, when every node is up: on the first node only.
    bootstrap = name != local.names[0] ? [] : [{
      name = "roles of Cassandra"
      done = "/opt/cassandra/bin/cqlsh --cqlshrc /etc/cassandra/cqlshrc -e 'LIST ROLES OF hawser' && ! /opt/cassandra/bin/cqlsh --cqlshrc /etc/cassandra/cqlshrc -u cassandra -p cassandra -e 'SHOW VERSION'"
      do   = "sed 's/^username = .*/username = cassandra/; s/^password = .*/password = cassandra/' /etc/cassandra/cqlshrc > /root/.cqlshrc-first; trap 'rm -f /root/.cqlshrc-first' EXIT; chmod 600 /root/.cqlshrc-first; /opt/cassandra/bin/cqlsh --cqlshrc /root/.cqlshrc-first -f /etc/cassandra/bootstrap.cql; /opt/cassandra/bin/cqlsh --cqlshrc /etc/cassandra/cqlshrc -e \"ALTER ROLE cassandra WITH LOGIN = false AND SUPERUSER = false\""
    }]
    secrets    = ["ca", "host_cert", "host_key", "cassandra_password", "cassandra_operator_password"]
    user       = "cassandra"
    data_mount = "/var/lib/cassandra"
  } }
}

output "flows" {
  description = "Who may connect to a Cassandra node."
  value = [
    { to = "cassandra", from = ["edge", "fanout"], port = 9042, why = "store: CQL", tracked = true },
    { to = "cassandra", from = ["cassandra"], port = 7000, why = "between nodes", tracked = true },
    { to = "cassandra", from = ["cassandra"], port = 9042, why = "the first node's bootstrap", tracked = true },
    { to = "cassandra", from = ["monitoring"], port = 7072, why = "metrics", tracked = true },
  ]
}

output "contact_points" {
  description = "What clients are given."
  value       = [for address in local.seeds : "${address}:9042"]
}

output "metrics_port" {
  description = "Port of the exporter."
  value       = 7072
}
