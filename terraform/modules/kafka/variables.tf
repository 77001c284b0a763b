variable "hosts" {
  description = "Brokers by name; each is also a controller."
  type = map(object({
    name        = string
    address     = string
    rack        = string
    cores       = number
    memory_gib  = number
    data_device = optional(string)
  }))
}

variable "broker_ids" {
  description = "Number of each broker, by name."
  type        = map(number)
}

variable "settings" {
  description = "The cluster's id (22 characters, `kafka-storage random-uuid`), copies, whether clients use TLS."
  type = object({
    cluster_id        = string
    replication       = number
    min_insync        = number
    client_tls        = bool
    retention_hours   = number
    message_bytes_max = number
    allow_unsafe      = bool
  })
}
