# What an operator says. Every rule names what to change; rules that only advise are in checks.tf.

variable "cluster" {
  description = "Name of the cluster (also prefix of Kafka's topics and name of the keyspace), its DNS zone, its number among cells, and its network."
  type = object({
    name    = string
    domain  = string
    cell    = optional(number, 0)
    network = string
  })

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{0,30}$", var.cluster.name))
    error_message = "cluster.name: 1 to 31 of a-z and 0-9, a letter first; it becomes a topic prefix and a keyspace."
  }
  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,}$", var.cluster.domain))
    error_message = "cluster.domain: a DNS zone such as chat.example.net, in lower case, without a dot at its end."
  }
  validation {
    condition     = var.cluster.cell >= 0 && var.cluster.cell <= 255 && floor(var.cluster.cell) == var.cluster.cell
    error_message = "cluster.cell: a whole number from 0 to 255; it is part of every message id, so two cells must not share one."
  }
  validation {
    condition     = can(cidrhost(var.cluster.network, 0)) && !strcontains(var.cluster.network, ":")
    error_message = "cluster.network: the IPv4 network of the hosts, such as 10.20.0.0/16."
  }
}

variable "hosts" {
  description = "Bare-metal hosts. nics: network devices as Linux names them. data_device: disk for the engine's data, made an xfs if it is empty; data_gib: its size."
  type = list(object({
    name           = string
    address        = string
    address6       = optional(string)
    public_address = optional(string)
    role           = string
    rack           = string
    cores          = number
    memory_gib     = number
    data_device    = optional(string)
    data_gib       = optional(number, 0)
    nics           = list(object({ name = string, gbit = number }))
  }))

  validation {
    condition     = alltrue([for host in var.hosts : can(regex("^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$", host.name))])
    error_message = "hosts: a name is a DNS label of a-z, 0-9 and -, a letter first, at most 42 long; rename ${join(", ", [for host in var.hosts : host.name if !can(regex("^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$", host.name))])}."
  }
  validation {
    condition     = length(distinct([for host in var.hosts : host.name])) == length(var.hosts)
    error_message = "hosts: two hosts share a name: ${join(", ", distinct([for host in var.hosts : host.name if length([for other in var.hosts : other if other.name == host.name]) > 1]))}."
  }
  validation {
    condition     = alltrue([for host in var.hosts : can(cidrnetmask("${host.address}/32"))])
    error_message = "hosts: address is an IPv4 address without a prefix length; wrong: ${join(", ", [for host in var.hosts : "${host.name} (${host.address})" if !can(cidrnetmask("${host.address}/32"))])}."
  }
  validation {
    condition = length(distinct(concat([for host in var.hosts : host.address], [for host in var.hosts : host.public_address if host.public_address != null && host.public_address != host.address]))) == (
      length(var.hosts) + length([for host in var.hosts : 1 if host.public_address != null && host.public_address != host.address])
    )
    error_message = "hosts: two hosts share an address: ${join(", ", distinct([for host in var.hosts : host.address if length([for other in var.hosts : other if other.address == host.address || other.public_address == host.address]) > 1]))}; give each its own."
  }
  validation {
    condition     = length(distinct([for host in var.hosts : cidrhost("${host.address6}/128", 0) if can(cidrhost("${host.address6}/128", 0))])) == length([for host in var.hosts : 1 if host.address6 != null])
    error_message = "hosts: address6 is an IPv6 address without a prefix length, of one host only."
  }
  validation {
    condition     = alltrue([for host in var.hosts : try(cidrhost("${host.address}/${split("/", var.cluster.network)[1]}", 0) == cidrhost(var.cluster.network, 0), true)])
    error_message = "hosts: outside of cluster.network: ${join(", ", [for host in var.hosts : "${host.name} (${host.address})" if !try(cidrhost("${host.address}/${split("/", var.cluster.network)[1]}", 0) == cidrhost(var.cluster.network, 0), true)])}; correct the address, or widen cluster.network."
  }
  validation {
    condition     = alltrue([for host in var.hosts : contains(["edge", "fanout", "kafka", "cassandra", "redis", "postgres", "monitoring"], host.role)])
    error_message = "hosts: role is edge, fanout, kafka, cassandra, redis, postgres or monitoring; wrong: ${join(", ", [for host in var.hosts : "${host.name} (${host.role})" if !contains(["edge", "fanout", "kafka", "cassandra", "redis", "postgres", "monitoring"], host.role)])}."
  }
  validation {
    condition     = alltrue([for role in ["edge", "fanout", "kafka", "cassandra", "redis", "postgres", "monitoring"] : contains([for host in var.hosts : host.role], role)])
    error_message = "hosts: no host has the role ${join(", ", [for role in ["edge", "fanout", "kafka", "cassandra", "redis", "postgres", "monitoring"] : role if !contains([for host in var.hosts : host.role], role)])}; a cluster needs at least one of each."
  }
  validation {
    condition     = length([for host in var.hosts : 1 if host.role == "kafka"]) % 2 == 1
    error_message = "hosts: ${length([for host in var.hosts : 1 if host.role == "kafka"])} brokers; each is a controller too, and an even number of voters survives no more losses than one fewer: make it 3, 5 or 7."
  }
  validation {
    condition     = alltrue([for host in var.hosts : host.cores >= 2 && floor(host.cores) == host.cores && host.memory_gib >= 4])
    error_message = "hosts: at least 2 whole cores and 4 GiB each; too small: ${join(", ", [for host in var.hosts : host.name if !(host.cores >= 2 && floor(host.cores) == host.cores && host.memory_gib >= 4)])}."
  }
  validation {
    condition     = alltrue([for host in var.hosts : can(regex("^[a-z0-9-]{1,40}$", host.rack))])
    error_message = "hosts: rack is 1 to 40 of a-z, 0-9 and -: Kafka, Cassandra and alerts show it."
  }
  validation {
    condition     = alltrue([for host in var.hosts : length(host.nics) > 0 && alltrue([for nic in host.nics : can(regex("^[a-z][a-z0-9._-]{0,14}$", nic.name)) && nic.gbit > 0])])
    error_message = "hosts: every host names at least one network device (as `ip link` shows it) and its speed in Gbit/s: nics = [{ name = \"eno1\", gbit = 25 }]."
  }
  validation {
    condition     = contains([1, 2], length([for host in var.hosts : 1 if host.role == "redis"])) == false || length([for host in var.hosts : 1 if host.role == "redis"]) == 1
    error_message = "hosts: two Redis hosts are neither one server nor a cluster: use 1, or 3 and more."
  }
}

variable "allow_unsafe" {
  description = "Accepts one broker, copies on one rack and the like: for a trial on few machines, never for users' messages."
  type        = bool
  default     = false
}

variable "log" {
  description = "Kafka: partitions of chat-messages and delivery (fixed once made), copies, copies that must have a record, retention, id of the cluster. client_tls needs a build of the programs whose librdkafka has TLS."
  type = object({
    cluster_id      = string
    partitions      = optional(number, 1024)
    replication     = optional(number, 3)
    min_insync      = optional(number, 2)
    retention_hours = optional(number, 168)
    compression     = optional(string, "lz4")
    client_tls      = optional(bool, false)
  })

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{22}$", var.log.cluster_id))
    error_message = "log.cluster_id: the 22 characters that `kafka-storage.sh random-uuid` prints; draw it once and keep it."
  }
  validation {
    condition     = contains([for power in range(17) : pow(2, power)], var.log.partitions)
    error_message = "log.partitions: ${var.log.partitions} is no power of two up to 65536; users hash to 65,536 slots, and slot mod P must stay even. 1024 is the default."
  }
  validation {
    condition     = var.log.replication <= length([for host in var.hosts : 1 if host.role == "kafka"])
    error_message = "log.replication: ${var.log.replication} copies need as many brokers, there are ${length([for host in var.hosts : 1 if host.role == "kafka"])}: add hosts with role kafka, or lower it."
  }
  validation {
    condition     = var.allow_unsafe || (var.log.replication >= 3 && var.log.min_insync >= 2)
    error_message = "log: fewer than 3 copies, or an acknowledgement by 1, loses acknowledged messages with one broker: replication = 3, min_insync = 2 (or allow_unsafe = true for a trial)."
  }
  validation {
    condition     = var.log.min_insync <= max(1, var.log.replication - 1) || var.log.replication == 1
    error_message = "log.min_insync: ${var.log.min_insync} of ${var.log.replication} copies means that one lost broker stops every append: at most ${max(1, var.log.replication - 1)}."
  }
  validation {
    condition     = var.allow_unsafe || length(distinct([for host in var.hosts : host.rack if host.role == "kafka"])) >= min(2, var.log.replication)
    error_message = "hosts: all brokers are in one rack, so its power supply holds every copy of an acknowledged message: spread them over ${var.log.replication} racks (or allow_unsafe = true)."
  }
  validation {
    condition     = contains(["none", "lz4", "zstd", "snappy"], var.log.compression)
    error_message = "log.compression: none, lz4, zstd or snappy."
  }
  validation {
    condition     = var.log.retention_hours >= 24 && var.log.retention_hours <= 87600
    error_message = "log.retention_hours: 24 to 87600; a replay and the dedup window need at least a day."
  }
}

variable "store" {
  description = "Cassandra: copies and data centre."
  type = object({
    replication = optional(number, 3)
    datacenter  = optional(string, "dc1")
  })
  default = {}

  validation {
    condition     = var.store.replication <= length([for host in var.hosts : 1 if host.role == "cassandra"])
    error_message = "store.replication: ${var.store.replication} copies need as many nodes, there are ${length([for host in var.hosts : 1 if host.role == "cassandra"])}: add hosts with role cassandra, or lower it."
  }
  validation {
    condition     = var.allow_unsafe || var.store.replication >= 3
    error_message = "store.replication: a quorum of fewer than 3 copies does not outlive one node: 3 (or allow_unsafe = true for a trial)."
  }
  validation {
    condition     = var.allow_unsafe || length(distinct([for host in var.hosts : host.rack if host.role == "cassandra"])) >= min(2, var.store.replication)
    error_message = "hosts: all Cassandra nodes are in one rack: spread them over ${var.store.replication} racks (or allow_unsafe = true)."
  }
  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_]{0,30}$", var.store.datacenter))
    error_message = "store.datacenter: 1 to 31 letters, digits or _, a letter first."
  }
}

variable "presence" {
  description = "Redis: replicas of each master in a cluster."
  type        = object({ replicas = optional(number, 1) })
  default     = {}

  validation {
    condition = (
      length([for host in var.hosts : 1 if host.role == "redis"]) < 3 ||
      (length([for host in var.hosts : 1 if host.role == "redis"]) % (1 + var.presence.replicas) == 0 &&
      length([for host in var.hosts : 1 if host.role == "redis"]) / (1 + var.presence.replicas) >= 3)
    )
    error_message = "presence.replicas: ${length([for host in var.hosts : 1 if host.role == "redis"])} Redis hosts with ${var.presence.replicas} replicas each do not make at least 3 masters with equal replicas: use 6 hosts with 1, or 3 with 0."
  }
}

variable "directory" {
  description = "Postgres: which host is the primary (empty: the first by name), and how many connections it takes."
  type = object({
    primary     = optional(string, "")
    connections = optional(number, 400)
  })
  default = {}

  validation {
    condition     = var.directory.primary == "" || contains([for host in var.hosts : host.name if host.role == "postgres"], var.directory.primary)
    error_message = "directory.primary: ${var.directory.primary} is no host with role postgres; there are ${join(", ", [for host in var.hosts : host.name if host.role == "postgres"])}."
  }
  validation {
    condition     = var.directory.connections >= 8 * length([for host in var.hosts : 1 if contains(["edge", "fanout"], host.role)]) + 20
    error_message = "directory.connections: every edge and fanout process takes up to 8, so at least ${8 * length([for host in var.hosts : 1 if contains(["edge", "fanout"], host.role)]) + 20}."
  }
}

variable "edge" {
  description = "Edge: name in DNS, more names in the certificate, heartbeat, KiB of memory that a session is planned with, cores left to the kernel (null: 1 up to 16 cores, 2 above)."
  type = object({
    name           = optional(string, "edge")
    tls_names      = optional(list(string), [])
    heartbeat_ms   = optional(number, 30000)
    session_kib    = optional(number, 32)
    reserved_cores = optional(number)
  })
  default = {}

  validation {
    condition     = var.edge.heartbeat_ms >= 5000 && var.edge.heartbeat_ms <= 300000
    error_message = "edge.heartbeat_ms: 5000 to 300000."
  }
  validation {
    condition     = var.edge.session_kib >= 8 && var.edge.session_kib <= 4096
    error_message = "edge.session_kib: 8 to 4096; an idle TLS session was measured at 14 KiB with kernel memory (README), 32 leaves room for its bursts."
  }
}

variable "auth" {
  description = "Who signs clients' tokens: address of the JWKS, issuer, audience, tenant."
  type = object({
    jwks     = string
    issuer   = optional(string, "")
    audience = optional(string, "hawser")
    tenant   = optional(string, "default")
  })

  validation {
    condition     = startswith(var.auth.jwks, "https://")
    error_message = "auth.jwks: an https:// address; over http whoever is on the way can sign tokens."
  }
}

variable "network" {
  description = "Who may reach what: clients (edge nodes' port 443) and operators (SSH, Grafana)."
  type = object({
    client_cidrs = optional(list(string), ["0.0.0.0/0", "::/0"])
    admin_cidrs  = list(string)
  })

  validation {
    condition     = length(var.network.admin_cidrs) > 0 && alltrue([for cidr in concat(var.network.admin_cidrs, var.network.client_cidrs) : can(cidrhost(cidr, 0))])
    error_message = "network: admin_cidrs and client_cidrs are lists of networks such as 192.0.2.0/24; admin_cidrs must not be empty, or nobody reaches the hosts."
  }
  validation {
    condition     = !contains(var.network.admin_cidrs, "0.0.0.0/0") && !contains(var.network.admin_cidrs, "::/0")
    error_message = "network.admin_cidrs: SSH and Grafana open to everybody; name the operators' networks."
  }
}

variable "dns" {
  description = "Zone: serial (must grow with each change) and name servers."
  type = object({
    serial       = optional(number, 1)
    name_servers = list(string)
  })

  validation {
    condition     = length(var.dns.name_servers) > 0 && alltrue([for server in var.dns.name_servers : endswith(server, ".")])
    error_message = "dns.name_servers: full names with a dot at the end, at least one."
  }
  validation {
    condition     = var.dns.serial >= 1 && var.dns.serial <= 4294967295
    error_message = "dns.serial: 1 to 4294967295, such as 2026112501."
  }
}

variable "artifacts" {
  description = "What is no Debian package: file name on the mirror and sha256, by name: hawser-gateway, hawser-fanout, kafka, cassandra, jmx-exporter, grafana."
  type        = map(object({ file = string, sha256 = string }))

  validation {
    condition     = length(setsubtract(["hawser-gateway", "hawser-fanout", "kafka", "cassandra", "jmx-exporter", "grafana"], keys(var.artifacts))) == 0
    error_message = "artifacts: missing ${join(", ", setsubtract(["hawser-gateway", "hawser-fanout", "kafka", "cassandra", "jmx-exporter", "grafana"], keys(var.artifacts)))}."
  }
  validation {
    condition     = alltrue([for artifact in values(var.artifacts) : can(regex("^[0-9a-f]{64}$", artifact.sha256))])
    error_message = "artifacts: sha256 is 64 hexadecimal digits, as `sha256sum FILE` prints; wrong: ${join(", ", [for name, artifact in var.artifacts : name if !can(regex("^[0-9a-f]{64}$", artifact.sha256))])}."
  }
}

variable "artifact_mirror" {
  description = "Address of your mirror that holds the artifacts."
  type        = string

  validation {
    condition     = can(regex("^https?://", var.artifact_mirror))
    error_message = "artifact_mirror: an http:// or https:// address (the checksums are what is trusted)."
  }
}

variable "access" {
  description = "Operators' public SSH keys, and NTP servers (empty: Debian's pool)."
  type = object({
    ssh_keys     = list(string)
    time_servers = optional(list(string), [])
  })

  validation {
    condition     = length(var.access.ssh_keys) > 0 && alltrue([for key in var.access.ssh_keys : can(regex("^(ssh-ed25519|ecdsa-sha2-nistp256|sk-ssh-ed25519@openssh.com|ssh-rsa) ", key))])
    error_message = "access.ssh_keys: at least one public key as in authorized_keys, or nobody can log in."
  }
}

variable "monitoring" {
  description = "Days that samples are kept, scrape interval, where alerts are posted (empty: nowhere)."
  type = object({
    retention_days  = optional(number, 30)
    scrape_interval = optional(string, "15s")
    alert_webhook   = optional(string, "")
  })
  default = {}
}

variable "targets" {
  description = "What the cluster is planned for; the checks compare it with the hosts. Defaults: the design's 20 M daily users."
  type = object({
    online              = optional(number, 5000000)
    messages_per_second = optional(number, 46300)
    messages_per_day    = optional(number, 400000000)
    body_bytes          = optional(number, 5000)
    history_days        = optional(number, 30)
  })
  default = {}
}

variable "secrets" {
  description = "Passwords and keys. Never part of user-data and of no output that is not marked sensitive; null: you bring them to the hosts by other means (README, step 4)."
  type = object({
    cluster_secret                = string
    cassandra_password            = string
    cassandra_operator_password   = string
    redis_password                = string
    redis_operator_password       = string
    redis_monitor_password        = string
    postgres_password             = string
    postgres_replication_password = string
    postgres_monitor_password     = string
    grafana_admin_password        = string
    ca                            = string
    edge_cert                     = string
    edge_key                      = string
    host_certs                    = map(string)
    host_keys                     = map(string)
  })
  default   = null
  sensitive = true

  validation {
    condition = var.secrets == null ? true : alltrue([for name, value in var.secrets : !endswith(name, "_password") || can(regex("^[A-Za-z0-9_-]{24,128}$", value))])
    # Which one is not told: a message is no place for a part of a secret.
    error_message = "secrets: every password is 24 to 128 of A-Z, a-z, 0-9, _ and - (`openssl rand -hex 24`)."
  }
  validation {
    condition     = var.secrets == null ? true : length(var.secrets.cluster_secret) >= 32
    error_message = "secrets.cluster_secret: at least 32 bytes (`openssl rand -base64 48`)."
  }
  validation {
    condition     = var.secrets == null ? true : length(setsubtract([for host in var.hosts : host.name if host.role != "edge" && host.role != "fanout"], keys(var.secrets.host_certs))) == 0 && length(setsubtract(keys(var.secrets.host_certs), keys(var.secrets.host_keys))) == 0
    error_message = "secrets.host_certs and host_keys: one of each for every engine and monitoring host, by name; `terraform/make-certificates` makes them."
  }
}

variable "apply_by_ssh" {
  description = "Hands each host its user-data over SSH during apply (hosts that have no other way to get it). The key is the running agent's."
  type = object({
    enabled = optional(bool, false)
    user    = optional(string, "root")
    program = optional(string, "ssh")
  })
  default = {}

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_-]{0,31}$", var.apply_by_ssh.user))
    error_message = "apply_by_ssh.user: the name of a user who may become root without a password."
  }
}
