output "hosts" {
  description = "What the role makes of each host, for the module `host`."
  value = { for name, host in var.hosts : name => {
    packages = ["openjdk-17-jre-headless"]
    artifacts = [
      { name = "kafka", to = "/opt/kafka", unpack = true },
      { name = "jmx-exporter", to = "/opt/jmx-exporter/jmx-exporter.jar", unpack = false },
    ]
    files       = local.files[name]
    directories = [{ path = "/var/lib/kafka", owner = "kafka:kafka", mode = "0750" }, { path = "/var/log/kafka", owner = "kafka:kafka", mode = "0750" }]
    services    = ["kafka.service"]
    listens = [
      { what = "clients' listener", address = host.address, port = 9092 },
      { what = "controller", address = host.address, port = 9093 },
      { what = "listener between brokers", address = host.address, port = 9094 },
      { what = "metrics", address = host.address, port = 7071 },
    ]
    bootstrap  = []
    secrets    = ["ca", "host_cert", "host_key"]
    user       = "kafka"
    data_mount = "/var/lib/kafka"
  } }
}

output "flows" {
  description = "Who may connect to a broker."
  value = [
    { to = "kafka", from = ["edge", "fanout"], port = 9092, why = "log: producers and consumers", tracked = true },
    { to = "kafka", from = ["kafka"], port = 9093, why = "controller quorum", tracked = true },
    { to = "kafka", from = ["kafka"], port = 9094, why = "replication", tracked = true },
    { to = "kafka", from = ["monitoring"], port = 7071, why = "metrics", tracked = true },
  ]
}

output "metrics_port" {
  description = "Port of the exporter."
  value       = 7071
}

output "voters" {
  description = "controller.quorum.voters."
  value       = local.voters
}
