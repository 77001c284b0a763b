variable "host" {
  description = "The host, as the inventory has it."
  type = object({
    name        = string
    address     = string
    role        = string
    rack        = string
    cores       = number
    memory_gib  = number
    data_device = optional(string)
    nics        = list(object({ name = string, gbit = number }))
  })
}

variable "domain" {
  description = "Zone of the cluster."
  type        = string
}

variable "part" {
  description = "What the host's role makes of it: the output `hosts[name]` of its role's module."
  type = object({
    packages    = list(string)
    artifacts   = list(object({ name = string, to = string, unpack = bool }))
    files       = list(object({ path = string, content = string, owner = string, mode = string }))
    directories = list(object({ path = string, owner = string, mode = string }))
    services    = list(string)
    listens     = list(object({ what = string, address = string, port = number }))
    bootstrap   = list(object({ name = string, done = string, do = string }))
    secrets     = list(string)
    user        = string
    data_mount  = optional(string)
  })
}

variable "ruleset" {
  description = "nftables ruleset of the host."
  type        = string
}

variable "artifacts" {
  description = "Where artifacts are, by name."
  type        = map(object({ file = string, sha256 = string }))
}

variable "artifact_mirror" {
  description = "Address that artifacts are fetched from."
  type        = string
}

variable "ssh_keys" {
  description = "Public keys of operators."
  type        = list(string)
}

variable "time_servers" {
  description = "NTP servers; empty: Debian's pool."
  type        = list(string)
}
