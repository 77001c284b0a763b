variable "hosts" {
  description = "Edge nodes by name."
  type = map(object({
    name           = string
    address        = string
    address6       = optional(string)
    public_address = optional(string)
    rack           = string
    cores          = number
    memory_gib     = number
  }))
}

variable "cluster" {
  description = "What both programs are told: the text of the sections [log], [store], [presence], [directory], [engines] and [auth], and the zone."
  type = object({
    domain           = string
    engine_sections  = string
    client_name      = string
    heartbeat_ms     = number
    secrets          = list(string)
    jwks             = string
    engine_files     = list(object({ path = string, content = string, owner = string, mode = string }))
    reserved_cores   = optional(number)
    session_kib      = number
    public_tls_names = list(string)
  })
}
