variable "hosts" {
  description = "Fanout hosts by name."
  type = map(object({
    name       = string
    address    = string
    rack       = string
    cores      = number
    memory_gib = number
  }))
}

variable "cluster" {
  description = "What both programs are told, and the number of this cell."
  type = object({
    cell            = number
    engine_sections = string
    secrets         = list(string)
    engine_files    = list(object({ path = string, content = string, owner = string, mode = string }))
  })
}
