variable "domain" {
  description = "Zone of the cluster, without a dot at the end."
  type        = string
}

variable "hosts" {
  description = "Every host of the cluster."
  type = list(object({
    name           = string
    address        = string
    address6       = optional(string)
    public_address = optional(string)
    role           = string
  }))
}

variable "edge_name" {
  description = "Name that clients connect to, within the zone."
  type        = string
  default     = "edge"
}

variable "edge_port" {
  description = "Port that clients connect to."
  type        = number
  default     = 443
}

variable "serial" {
  description = "Serial of the zone; must grow with every change that secondaries shall see."
  type        = number
}

variable "name_servers" {
  description = "Names of the zone's servers, with a dot at the end."
  type        = list(string)
}
