# What may be meant, but is rarely wise: warnings of plan and apply. The arithmetic is the design's, corrected
# (README, "Capacity").

locals {
  edges     = local.by_role["edge"]
  sessions  = module.edge.max_sessions
  log_bytes = var.targets.messages_per_day * var.targets.body_bytes
  capacity = {
    # After the loss of the largest node.
    sessions_after_one_loss = sum(values(local.sessions)) - max(values(local.sessions)...)
    kafka_tb_needed         = local.log_bytes * var.log.retention_hours / 24 * var.log.replication / 1e12
    kafka_tb                = sum([for host in local.by_role["kafka"] : host.data_gib]) * 1.073741824 / 1000
    kafka_gbit_in           = var.targets.messages_per_second * var.targets.body_bytes * 8 * var.log.replication / 1e9
    kafka_gbit              = sum([for host in local.by_role["kafka"] : sum([for nic in host.nics : nic.gbit])])
    cassandra_tb_needed     = local.log_bytes * var.targets.history_days * var.store.replication / 1e12
    cassandra_tb            = sum([for host in local.by_role["cassandra"] : host.data_gib]) * 1.073741824 / 1000
    partitions_per_core     = var.log.partitions / module.inventory.edge_cores
  }
}

check "partitions" {
  assert {
    condition     = local.capacity.partitions_per_core >= 4
    error_message = "log.partitions: ${var.log.partitions} for ${module.inventory.edge_cores} cores of edge nodes is ${format("%.1f", local.capacity.partitions_per_core)} each; below 4, cores share work unevenly. ${pow(2, ceil(log(4 * module.inventory.edge_cores, 2)))} would do; it is fixed once the topics are made."
  }
}

check "racks" {
  assert {
    condition     = length(module.inventory.racks["kafka"]) >= var.log.replication && length(module.inventory.racks["cassandra"]) >= var.store.replication
    error_message = "Fewer racks than copies (brokers: ${length(module.inventory.racks["kafka"])}, Cassandra: ${length(module.inventory.racks["cassandra"])}): losing one rack takes two copies, so appends and ✓ stop until it is back. Nothing acknowledged is lost."
  }
  assert {
    condition     = length(local.edges) < 2 || length(module.inventory.racks["edge"]) >= 2
    error_message = "All edge nodes are in one rack: its loss disconnects everybody."
  }
}

check "spare" {
  assert {
    condition     = alltrue([for role in ["edge", "fanout"] : length(local.by_role[role]) >= 2])
    error_message = "One edge node or one fanout host alone: its restart is an outage. Use two of each."
  }
  assert {
    condition     = length(local.by_role["postgres"]) >= 2
    error_message = "One Postgres host: groups and log-ins depend on its disk. Add a standby."
  }
  assert {
    condition     = length(local.by_role["redis"]) != 1
    error_message = "One Redis server: its restart makes everybody look offline for 30 s. Messages are not concerned."
  }
}

check "capacity" {
  assert {
    condition     = local.capacity.sessions_after_one_loss >= var.targets.online
    error_message = "Edge: with one node lost ${local.capacity.sessions_after_one_loss} sessions fit, targets.online is ${var.targets.online}: add nodes or memory."
  }
  assert {
    condition     = local.capacity.kafka_tb >= local.capacity.kafka_tb_needed
    error_message = "Kafka: ${var.log.retention_hours} h of ${var.targets.messages_per_day} messages of ${var.targets.body_bytes} B a day are ${format("%.1f", local.capacity.kafka_tb_needed)} TB with ${var.log.replication} copies; brokers have ${format("%.1f", local.capacity.kafka_tb)} TB (data_gib)."
  }
  assert {
    condition     = local.capacity.kafka_gbit >= 2 * local.capacity.kafka_gbit_in
    error_message = "Kafka: ${format("%.1f", local.capacity.kafka_gbit_in)} Gbit/s of copies at peak; brokers' network devices have ${local.capacity.kafka_gbit}, and readers need as much again."
  }
  assert {
    # Compaction needs half as much again.
    condition     = local.capacity.cassandra_tb >= 1.5 * local.capacity.cassandra_tb_needed
    error_message = "Cassandra: ${var.targets.history_days} days of history are ${format("%.0f", local.capacity.cassandra_tb_needed)} TB with ${var.store.replication} copies, and compaction wants half as much again; nodes have ${format("%.1f", local.capacity.cassandra_tb)} TB (data_gib)."
  }
}
