variable "hosts" {
  description = "Hosts, as the environment's variable of the same name; judged there."
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
}
