variable "hosts" {
  description = "Cassandra nodes by name."
  type = map(object({
    name        = string
    address     = string
    rack        = string
    cores       = number
    memory_gib  = number
    data_device = optional(string)
  }))
}

variable "settings" {
  description = "Name of the cluster, data centre, copies."
  type = object({
    cluster_name = string
    datacenter   = string
    replication  = number
    keyspace     = string
  })
}
