# What must be refused, and what must be warned of. Inventory and values are those of cluster.tftest.hcl, with one thing wrong.

variables {
  cluster = { name = "hawser", domain = "chat.example.net", network = "10.20.0.0/16" }
  hosts = [
    { name = "edge-1", address = "10.20.1.1", public_address = "198.51.100.1", address6 = "2001:db8::1", role = "edge", rack = "a", cores = 16, memory_gib = 64, nics = [{ name = "eno1", gbit = 25 }] },
    { name = "edge-2", address = "10.20.1.2", public_address = "198.51.100.2", role = "edge", rack = "b", cores = 16, memory_gib = 64, nics = [{ name = "eno1", gbit = 25 }] },
    { name = "fanout-1", address = "10.20.2.1", role = "fanout", rack = "a", cores = 8, memory_gib = 32, nics = [{ name = "eno1", gbit = 25 }] },
    { name = "fanout-2", address = "10.20.2.2", role = "fanout", rack = "b", cores = 8, memory_gib = 32, nics = [{ name = "eno1", gbit = 25 }] },
    { name = "kafka-1", address = "10.20.3.1", role = "kafka", rack = "a", cores = 16, memory_gib = 128, data_device = "/dev/nvme1n1", data_gib = 20000, nics = [{ name = "eno1", gbit = 25 }] },
    { name = "kafka-2", address = "10.20.3.2", role = "kafka", rack = "b", cores = 16, memory_gib = 128, data_device = "/dev/nvme1n1", data_gib = 20000, nics = [{ name = "eno1", gbit = 25 }] },
    { name = "kafka-3", address = "10.20.3.3", role = "kafka", rack = "c", cores = 16, memory_gib = 128, data_device = "/dev/nvme1n1", data_gib = 20000, nics = [{ name = "eno1", gbit = 25 }] },
    { name = "cassandra-1", address = "10.20.4.1", role = "cassandra", rack = "a", cores = 16, memory_gib = 64, data_gib = 4000, nics = [{ name = "eno1", gbit = 25 }] },
    { name = "cassandra-2", address = "10.20.4.2", role = "cassandra", rack = "b", cores = 16, memory_gib = 64, data_gib = 4000, nics = [{ name = "eno1", gbit = 25 }] },
    { name = "cassandra-3", address = "10.20.4.3", role = "cassandra", rack = "c", cores = 16, memory_gib = 64, data_gib = 4000, nics = [{ name = "eno1", gbit = 25 }] },
    { name = "redis-1", address = "10.20.5.1", role = "redis", rack = "a", cores = 4, memory_gib = 16, nics = [{ name = "eno1", gbit = 10 }] },
    { name = "redis-2", address = "10.20.5.2", role = "redis", rack = "a", cores = 4, memory_gib = 16, nics = [{ name = "eno1", gbit = 10 }] },
    { name = "redis-3", address = "10.20.5.3", role = "redis", rack = "b", cores = 4, memory_gib = 16, nics = [{ name = "eno1", gbit = 10 }] },
    { name = "redis-4", address = "10.20.5.4", role = "redis", rack = "b", cores = 4, memory_gib = 16, nics = [{ name = "eno1", gbit = 10 }] },
    { name = "redis-5", address = "10.20.5.5", role = "redis", rack = "c", cores = 4, memory_gib = 16, nics = [{ name = "eno1", gbit = 10 }] },
    { name = "redis-6", address = "10.20.5.6", role = "redis", rack = "c", cores = 4, memory_gib = 16, nics = [{ name = "eno1", gbit = 10 }] },
    { name = "postgres-1", address = "10.20.6.1", role = "postgres", rack = "a", cores = 8, memory_gib = 32, nics = [{ name = "eno1", gbit = 10 }] },
    { name = "postgres-2", address = "10.20.6.2", role = "postgres", rack = "b", cores = 8, memory_gib = 32, nics = [{ name = "eno1", gbit = 10 }] },
    { name = "monitoring-1", address = "10.20.7.1", role = "monitoring", rack = "c", cores = 8, memory_gib = 32, nics = [{ name = "eno1", gbit = 10 }] },
  ]
  log             = { cluster_id = "5L6g3nShT-eMCtK--X86sw", partitions = 256 }
  auth            = { jwks = "https://accounts.example.net/jwks.json" }
  network         = { admin_cidrs = ["203.0.113.0/24"] }
  dns             = { serial = 7, name_servers = ["ns1.example.net."] }
  access          = { ssh_keys = ["ssh-ed25519 AAAA operator"] }
  artifact_mirror = "https://mirror.example.net/"
  artifacts = {
    hawser-gateway = { file = "hawser-gateway", sha256 = "0000000000000000000000000000000000000000000000000000000000000001" }
    hawser-fanout  = { file = "hawser-fanout", sha256 = "0000000000000000000000000000000000000000000000000000000000000002" }
    kafka          = { file = "kafka.tgz", sha256 = "0000000000000000000000000000000000000000000000000000000000000003" }
    cassandra      = { file = "cassandra.tar.gz", sha256 = "0000000000000000000000000000000000000000000000000000000000000004" }
    jmx-exporter   = { file = "jmx.jar", sha256 = "0000000000000000000000000000000000000000000000000000000000000005" }
    grafana        = { file = "grafana.tar.gz", sha256 = "0000000000000000000000000000000000000000000000000000000000000006" }
  }
  targets = { online = 1000000, messages_per_second = 2000, messages_per_day = 17000000, history_days = 20 }
}

run "an_even_number_of_brokers" {
  command = plan

  variables {
    hosts = concat(var.hosts, [{ name = "kafka-4", address = "10.20.3.4", role = "kafka", rack = "a", cores = 16, memory_gib = 128, data_gib = 20000, nics = [{ name = "eno1", gbit = 25 }] }])
  }
  expect_failures = [var.hosts]
}

run "two_hosts_of_one_address" {
  command = plan

  variables {
    hosts = [for host in var.hosts : host.name == "edge-2" ? merge(host, { address = "10.20.1.1" }) : host]
  }
  expect_failures = [var.hosts]
}

run "two_hosts_of_one_name" {
  command = plan

  variables {
    hosts = [for host in var.hosts : host.name == "edge-2" ? merge(host, { name = "edge-1" }) : host]
  }
  expect_failures = [var.hosts]
}

run "a_name_that_is_no_dns_label" {
  command = plan

  variables {
    hosts = [for host in var.hosts : host.name == "edge-2" ? merge(host, { name = "Edge_2" }) : host]
  }
  expect_failures = [var.hosts]
}

run "an_address_that_is_none" {
  command = plan

  variables {
    hosts = [for host in var.hosts : host.name == "edge-2" ? merge(host, { address = "10.20.1.300" }) : host]
  }
  expect_failures = [var.hosts]
}

run "a_host_outside_of_the_network" {
  command = plan

  variables {
    hosts = [for host in var.hosts : host.name == "edge-2" ? merge(host, { address = "10.99.1.2" }) : host]
  }
  expect_failures = [var.hosts]
}

run "a_role_that_there_is_not" {
  command = plan

  variables {
    hosts = [for host in var.hosts : host.name == "edge-2" ? merge(host, { role = "gateway" }) : host]
  }
  expect_failures = [var.hosts]
}

run "a_role_without_a_host" {
  command = plan

  variables {
    hosts = [for host in var.hosts : host if host.role != "monitoring"]
  }
  expect_failures = [var.hosts]
}

run "a_host_without_a_network_device" {
  command = plan

  variables {
    hosts = [for host in var.hosts : host.name == "edge-2" ? merge(host, { nics = [] }) : host]
  }
  expect_failures = [var.hosts]
}

run "a_host_that_is_too_small" {
  command = plan

  variables {
    hosts = [for host in var.hosts : host.name == "edge-2" ? merge(host, { cores = 1 }) : host]
  }
  expect_failures = [var.hosts]
}

run "more_copies_than_brokers" {
  command = plan

  variables {
    log = { cluster_id = "5L6g3nShT-eMCtK--X86sw", replication = 5, partitions = 256 }
  }
  expect_failures = [var.log]
}

run "partitions_that_are_no_power_of_two" {
  command = plan

  variables {
    log = { cluster_id = "5L6g3nShT-eMCtK--X86sw", partitions = 1000 }
  }
  expect_failures = [var.log]
}

run "an_acknowledgement_by_one_broker" {
  command = plan

  variables {
    log = { cluster_id = "5L6g3nShT-eMCtK--X86sw", partitions = 256, min_insync = 1 }
  }
  expect_failures = [var.log]
}

run "an_acknowledgement_that_no_broker_may_miss" {
  command = plan

  variables {
    log = { cluster_id = "5L6g3nShT-eMCtK--X86sw", partitions = 256, min_insync = 3 }
  }
  expect_failures = [var.log]
}

run "brokers_in_one_rack" {
  command = plan

  variables {
    hosts = [for host in var.hosts : host.role == "kafka" ? merge(host, { rack = "a" }) : host]
  }
  expect_failures = [var.log]
}

run "more_copies_than_cassandra_nodes" {
  command = plan

  variables {
    store = { replication = 5 }
  }
  expect_failures = [var.store]
}

run "cassandra_in_one_rack" {
  command = plan

  variables {
    hosts = [for host in var.hosts : host.role == "cassandra" ? merge(host, { rack = "a" }) : host]
  }
  expect_failures = [var.store]
}

run "redis_hosts_that_make_no_cluster" {
  command = plan

  variables {
    presence = { replicas = 3 }
  }
  expect_failures = [var.presence]
}

run "a_primary_that_is_no_postgres_host" {
  command = plan

  variables {
    directory = { primary = "redis-1" }
  }
  expect_failures = [var.directory]
}

run "tokens_signed_over_plain_http" {
  command = plan

  variables {
    auth = { jwks = "http://accounts.example.net/jwks.json" }
  }
  expect_failures = [var.auth]
}

run "operators_from_everywhere" {
  command = plan

  variables {
    network = { admin_cidrs = ["0.0.0.0/0"] }
  }
  expect_failures = [var.network]
}

run "an_artifact_without_a_checksum" {
  command = plan

  variables {
    artifacts = merge(var.artifacts, { kafka = { file = "kafka.tgz", sha256 = "latest" } })
  }
  expect_failures = [var.artifacts]
}

run "an_artifact_that_is_missing" {
  command = plan

  variables {
    artifacts = { for name, artifact in var.artifacts : name => artifact if name != "grafana" }
  }
  expect_failures = [var.artifacts]
}

run "a_cluster_id_that_is_none" {
  command = plan

  variables {
    log = { cluster_id = "mine", partitions = 256 }
  }
  expect_failures = [var.log]
}

run "a_name_server_without_its_dot" {
  command = plan

  variables {
    dns = { name_servers = ["ns1.example.net"] }
  }
  expect_failures = [var.dns]
}

run "a_password_that_is_short" {
  command = plan

  variables {
    secrets = {
      cluster_secret                = "clustersecretclustersecretclustersecret"
      cassandra_password            = "short"
      cassandra_operator_password   = "cassandra-operator-of-this-test"
      redis_password                = "redis-password-of-this-test"
      redis_operator_password       = "redis-operator-of-this-test"
      redis_monitor_password        = "redis-monitor-of-this-test"
      postgres_password             = "postgres-password-of-this-test"
      postgres_replication_password = "postgres-replication-of-this-test"
      postgres_monitor_password     = "postgres-monitor-of-this-test"
      grafana_admin_password        = "grafana-admin-of-this-test-only"
      ca                            = "ca"
      edge_cert                     = "edge-cert"
      edge_key                      = "edge-key"
      host_certs                    = {}
      host_keys                     = {}
    }
  }
  expect_failures = [var.secrets]
}

run "few_partitions_for_many_cores_is_warned_of" {
  command = plan

  variables {
    log = { cluster_id = "5L6g3nShT-eMCtK--X86sw", partitions = 64 }
  }
  expect_failures = [check.partitions]
}

run "fewer_racks_than_copies_is_warned_of" {
  command = plan

  variables {
    hosts = [for host in var.hosts : host.rack == "c" ? merge(host, { rack = "b" }) : host]
  }
  expect_failures = [check.racks]
}

run "an_edge_alone_is_warned_of" {
  command = plan

  variables {
    hosts = [for host in var.hosts : host if host.name != "fanout-2"]
  }
  expect_failures = [check.spare]
}

run "the_whole_design_on_these_hosts_is_warned_of" {
  command = plan

  variables {
    targets = {}
  }
  expect_failures = [check.capacity]
}

run "a_trial_on_one_host_of_each_is_possible_when_asked_for" {
  command = plan

  variables {
    allow_unsafe = true
    hosts        = [for host in var.hosts : host if endswith(host.name, "-1")]
    log          = { cluster_id = "5L6g3nShT-eMCtK--X86sw", partitions = 64, replication = 1, min_insync = 1 }
    store        = { replication = 1 }
    targets      = { online = 1, messages_per_second = 1, messages_per_day = 1 }
  }

  assert {
    condition     = strcontains(output.files["edge-1"]["/etc/hawser/gateway.toml"], "allow_unsafe_log = true") && !module.redis.cluster
    error_message = "the programs are told, and one Redis is no cluster"
  }
  expect_failures = [check.spare, check.capacity]
}
