variable "hosts" {
  description = "Redis hosts by name."
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
  description = "Replicas of each master; one host alone is no cluster."
  type = object({
    replicas = number
  })
}
