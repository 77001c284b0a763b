# What a sound inventory becomes. Built-in providers only: nothing is mocked, and apply touches nothing.

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

run "every_host_has_user_data_and_nothing_warns" {
  command = apply

  assert {
    condition     = length(output.user_data) == 19 && alltrue([for text in values(output.user_data) : startswith(text, "#cloud-config\n")])
    error_message = "19 hosts, each with cloud-init user-data"
  }
  assert {
    condition     = length(terraform_data.apply_by_ssh) == 0
    error_message = "no host is touched unless asked"
  }
}

run "both_programs_are_told_the_same_engines" {
  command = plan

  assert {
    condition     = strcontains(output.files["edge-1"]["/etc/hawser/gateway.toml"], "bootstrap = [\"10.20.3.1:9092\",\"10.20.3.2:9092\",\"10.20.3.3:9092\"]")
    error_message = "the gateway knows all brokers"
  }
  assert {
    condition     = strcontains(output.files["fanout-2"]["/etc/hawser/fanout.toml"], "contact_points = [\"10.20.4.1:9042\",\"10.20.4.2:9042\",\"10.20.4.3:9042\"]")
    error_message = "fanout knows a Cassandra node of each rack"
  }
  assert {
    condition     = strcontains(output.files["edge-2"]["/etc/hawser/gateway.toml"], "address = \"10.20.6.1:5432\"")
    error_message = "the directory is the Postgres primary"
  }
}

run "a_gateway_leaves_a_core_to_the_kernel_and_plans_sessions_from_memory" {
  command = plan

  assert {
    condition     = output.files["edge-1"]["/etc/systemd/system/hawser-gateway.service.d/10-host.conf"] == "[Service]\nCPUAffinity=1-15\n"
    error_message = "cores 1 to 15"
  }
  assert {
    condition     = strcontains(output.files["edge-1"]["/etc/hawser/gateway.toml"], "max_sessions = 1048576\n")
    error_message = "half of 64 GiB in pieces of 32 KiB"
  }
}

run "brokers_are_numbered_and_know_their_racks" {
  command = plan

  assert {
    condition     = strcontains(output.files["kafka-3"]["/etc/kafka/server.properties"], "node.id=3\nbroker.rack=c\ncontroller.quorum.voters=1@10.20.3.1:9093,2@10.20.3.2:9093,3@10.20.3.3:9093\n")
    error_message = "three voters, one quorum"
  }
  assert {
    condition     = strcontains(output.files["kafka-1"]["/etc/kafka/server.properties"], "\nmin.insync.replicas=2\nunclean.leader.election.enable=false\n")
    error_message = "an acknowledged record is on two brokers"
  }
}

run "redis_masters_are_of_three_racks" {
  command = plan

  # redis-cli makes the first three masters.
  assert {
    condition     = slice(module.redis.create_order, 0, 3) == ["10.20.5.1", "10.20.5.3", "10.20.5.5"]
    error_message = "one master of each rack"
  }
  assert {
    condition     = module.redis.cluster
    error_message = "six hosts are a cluster"
  }
}

run "only_the_edge_is_open_to_clients" {
  command = plan

  assert {
    condition     = [for role, ports in output.open_ports : role if anytrue([for port in ports : strcontains(port, "from clients")])] == ["edge"]
    error_message = "no engine is open to clients"
  }
  assert {
    condition     = !strcontains(output.rulesets["kafka-1"], "198.51.100") && strcontains(output.rulesets["kafka-1"], "ip saddr { 10.20.1.1, 10.20.1.2, 10.20.2.1, 10.20.2.2 } tcp dport 9092 counter accept")
    error_message = "brokers are open to edge and fanout"
  }
}

run "clients_find_edges_by_their_public_addresses" {
  command = plan

  assert {
    condition     = output.edge_url == "wss://edge.chat.example.net/v1/ws" && strcontains(output.zone, "edge 60 IN A 198.51.100.1\n") && strcontains(output.zone, "edge 60 IN AAAA 2001:db8::1\n")
    error_message = "A and AAAA of the edges"
  }
  assert {
    condition     = strcontains(output.zone, "_hawser._tcp 60 IN SRV 10 10 443 edge-2.chat.example.net.\n")
    error_message = "SRV of the edges"
  }
  assert {
    condition     = strcontains(output.zone, "kafka-1 3600 IN A 10.20.3.1\n")
    error_message = "every host has a name"
  }
}

run "secrets_go_to_the_hosts_that_need_them_and_nowhere_else" {
  command = apply

  variables {
    secrets = {
      cluster_secret                = "clustersecretclustersecretclustersecret"
      cassandra_password            = "cassandra-password-of-this-test"
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
      host_certs                    = { kafka-1 = "c", kafka-2 = "c", kafka-3 = "c", cassandra-1 = "c", cassandra-2 = "c", cassandra-3 = "c", redis-1 = "c", redis-2 = "c", redis-3 = "c", redis-4 = "c", redis-5 = "c", redis-6 = "c", postgres-1 = "c", postgres-2 = "c", monitoring-1 = "c" }
      host_keys                     = { kafka-1 = "k", kafka-2 = "k", kafka-3 = "k", cassandra-1 = "k", cassandra-2 = "k", cassandra-3 = "k", redis-1 = "k", redis-2 = "k", redis-3 = "k", redis-4 = "k", redis-5 = "k", redis-6 = "k", postgres-1 = "k", postgres-2 = "k", monitoring-1 = "k" }
    }
  }

  assert {
    condition     = output.secret_files["edge-1"]["redis_password"] == "redis-password-of-this-test" && !contains(keys(output.secret_files["kafka-1"]), "redis_password")
    error_message = "the edge has Redis's password, a broker has not"
  }
  assert {
    condition     = !strcontains(jsonencode(output.files), "of-this-test") && !strcontains(jsonencode(output.user_data), "of-this-test")
    error_message = "neither files nor user-data hold a secret"
  }
}
