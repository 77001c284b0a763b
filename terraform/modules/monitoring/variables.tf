variable "hosts" {
  description = "Monitoring hosts by name; each scrapes everything."
  type = map(object({
    name        = string
    address     = string
    rack        = string
    cores       = number
    memory_gib  = number
    data_device = optional(string)
  }))
}

variable "targets" {
  description = "What is scraped: job, port, and the hosts with their racks."
  type = map(object({
    port  = number
    hosts = list(object({ name = string, address = string, rack = string }))
  }))
}

variable "settings" {
  description = "Name of the cluster, how long samples are kept, bounds of alerts that depend on the cluster's size, where alerts go."
  type = object({
    cluster         = string
    retention_days  = number
    brokers         = number
    sessions_max    = number
    lag_ready_s     = number
    alert_webhook   = string
    scrape_interval = string
  })
}
