# One cell of Hawser on a list of bare-metal hosts: who is what, what each is told, and who may reach whom.

module "inventory" {
  source = "../../modules/inventory"
  hosts  = var.hosts
}

locals {
  by_role = module.inventory.by_role

  # Where programs find keys and passwords; the files are written by `hawser-host start`.
  keys = "/etc/hawser/keys"
  ca   = "/etc/hawser/tls/ca.pem"

  # The same text in both programs' files.
  engine_sections = templatefile("${path.module}/templates/engines.toml.tftpl", {
    cluster        = var.cluster
    log            = var.log
    store          = var.store
    auth           = var.auth
    allow_unsafe   = var.allow_unsafe
    bootstrap      = module.inventory.bootstrap
    contact_points = module.cassandra.contact_points
    redis          = module.redis
    postgres       = module.postgres.address
    keys           = local.keys
    ca             = local.ca
  })

  engine_secrets = ["ca", "cassandra_password", "redis_password", "postgres_password"]
  engine_files = concat(
    [{ path = local.ca, content = "@@secret:ca@@\n", owner = "root:hawser", mode = "0644" }],
    [for name in ["cassandra", "redis", "postgres"] : { path = "${local.keys}/${name}_password", content = "@@secret:${name}_password@@\n", owner = "root:hawser", mode = "0640" }],
  )

  # Every role's own flows, and those that every host has.
  roles = keys(local.by_role)
  flows = concat(
    [for flow in module.edge.flows : merge(flow, { protocol = "tcp" })],
    [for flow in module.fanout.flows : merge(flow, { protocol = "tcp" })],
    [for flow in module.kafka.flows : merge(flow, { protocol = "tcp" })],
    [for flow in module.cassandra.flows : merge(flow, { protocol = "tcp" })],
    [for flow in module.redis.flows : merge(flow, { protocol = "tcp" })],
    [for flow in module.postgres.flows : merge(flow, { protocol = "tcp" })],
    [for flow in module.monitoring.flows : merge(flow, { protocol = "tcp" })],
    [for role in local.roles : { to = role, from = ["monitoring"], port = 9100, why = "metrics of the host", tracked = true, protocol = "tcp" }],
    [for role in local.roles : { to = role, from = ["admins", "monitoring"], port = 22, why = "SSH", tracked = true, protocol = "tcp" }],
  )

  parts = merge(
    module.edge.hosts, module.fanout.hosts, module.kafka.hosts, module.cassandra.hosts,
    module.redis.hosts, module.postgres.hosts, module.monitoring.hosts,
  )

  here = { for role in local.roles : role => [for name in sort(keys(local.by_role[role])) : {
    name = name, address = local.by_role[role][name].address, rack = local.by_role[role][name].rack
  }] }
}

module "edge" {
  source = "../../modules/edge"
  hosts  = local.by_role["edge"]
  cluster = {
    domain           = var.cluster.domain
    engine_sections  = local.engine_sections
    client_name      = var.edge.name
    heartbeat_ms     = var.edge.heartbeat_ms
    secrets          = local.engine_secrets
    jwks             = var.auth.jwks
    engine_files     = local.engine_files
    reserved_cores   = var.edge.reserved_cores
    session_kib      = var.edge.session_kib
    public_tls_names = var.edge.tls_names
  }
}

module "fanout" {
  source = "../../modules/fanout"
  hosts  = local.by_role["fanout"]
  cluster = {
    cell            = var.cluster.cell
    engine_sections = replace(local.engine_sections, "cluster_secret = \"${local.keys}/cluster_secret\"\n", "")
    secrets         = local.engine_secrets
    engine_files    = local.engine_files
  }
}

module "kafka" {
  source     = "../../modules/kafka"
  hosts      = local.by_role["kafka"]
  broker_ids = module.inventory.broker_ids
  settings = {
    cluster_id      = var.log.cluster_id
    replication     = var.log.replication
    min_insync      = var.log.min_insync
    client_tls      = var.log.client_tls
    retention_hours = var.log.retention_hours
    # What hawser asks of its topics (docs/kafka.md) is 1,118,208; brokers take a little more.
    message_bytes_max = 1179648
    allow_unsafe      = var.allow_unsafe
  }
}

module "cassandra" {
  source = "../../modules/cassandra"
  hosts  = local.by_role["cassandra"]
  settings = {
    cluster_name = var.cluster.name
    datacenter   = var.store.datacenter
    replication  = var.store.replication
    keyspace     = var.cluster.name
  }
}

module "redis" {
  source   = "../../modules/redis"
  hosts    = local.by_role["redis"]
  settings = { replicas = var.presence.replicas }
}

module "postgres" {
  source = "../../modules/postgres"
  hosts  = local.by_role["postgres"]
  settings = {
    primary      = var.directory.primary
    database     = var.cluster.name
    connections  = var.directory.connections
    client_roles = { for role in ["edge", "fanout"] : role => module.inventory.addresses[role] }
  }
}

module "monitoring" {
  source = "../../modules/monitoring"
  hosts  = local.by_role["monitoring"]
  targets = {
    node      = { port = 9100, hosts = flatten(values(local.here)) }
    edge      = { port = module.edge.metrics_port, hosts = local.here["edge"] }
    fanout    = { port = module.fanout.metrics_port, hosts = local.here["fanout"] }
    kafka     = { port = module.kafka.metrics_port, hosts = local.here["kafka"] }
    cassandra = { port = module.cassandra.metrics_port, hosts = local.here["cassandra"] }
    redis     = { port = module.redis.metrics_port, hosts = local.here["redis"] }
    postgres  = { port = module.postgres.metrics_port, hosts = local.here["postgres"] }
  }
  settings = {
    cluster         = var.cluster.name
    retention_days  = var.monitoring.retention_days
    brokers         = length(local.by_role["kafka"])
    sessions_max    = min(values(module.edge.max_sessions)...)
    lag_ready_s     = 60
    alert_webhook   = var.monitoring.alert_webhook
    scrape_interval = var.monitoring.scrape_interval
  }
}

module "firewall" {
  source       = "../../modules/firewall"
  hosts        = var.hosts
  flows        = local.flows
  client_cidrs = var.network.client_cidrs
  admin_cidrs  = var.network.admin_cidrs
}

module "dns" {
  source       = "../../modules/dns"
  domain       = var.cluster.domain
  hosts        = var.hosts
  edge_name    = var.edge.name
  serial       = var.dns.serial
  name_servers = var.dns.name_servers
}

module "host" {
  source   = "../../modules/host"
  for_each = module.inventory.by_name

  host            = each.value
  domain          = var.cluster.domain
  part            = local.parts[each.key]
  ruleset         = module.firewall.rulesets[each.key]
  artifacts       = var.artifacts
  artifact_mirror = var.artifact_mirror
  ssh_keys        = var.access.ssh_keys
  time_servers    = var.access.time_servers
}

# What a host was told last: a plan shows which hosts a change concerns.
resource "terraform_data" "host" {
  for_each         = module.inventory.by_name
  input            = { address = each.value.address, role = each.value.role, user_data_sha256 = sha256(module.host[each.key].user_data) }
  triggers_replace = [sha256(module.host[each.key].user_data)]
}

# The one way to reach a host that is built in: its user-data over SSH, as a NoCloud seed. Providers of real
# hosts are in terraform/examples, each a root of its own, as a provider cannot be required on condition.
resource "terraform_data" "apply_by_ssh" {
  for_each         = var.apply_by_ssh.enabled ? module.inventory.by_name : {}
  triggers_replace = [terraform_data.host[each.key].id]

  provisioner "local-exec" {
    command = "\"$HAWSER_APPLY\" \"$HAWSER_TARGET\""
    environment = {
      HAWSER_APPLY     = abspath("${path.module}/../../files/apply-by-ssh")
      HAWSER_TARGET    = "${var.apply_by_ssh.user}@${each.value.address}"
      HAWSER_NAME      = each.key
      HAWSER_SSH       = var.apply_by_ssh.program
      HAWSER_USER_DATA = module.host[each.key].user_data
    }
  }
}
