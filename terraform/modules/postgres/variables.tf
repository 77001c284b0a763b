variable "hosts" {
  description = "Postgres hosts by name."
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
  description = "The primary's name (empty: the first by name), the database, who connects."
  type = object({
    primary      = string
    database     = string
    client_roles = map(list(string))
    connections  = number
  })
}
