variable "hosts" {
  description = "Every host of the cluster."
  type = list(object({
    name     = string
    address  = string
    address6 = optional(string)
    role     = string
  }))
}

variable "flows" {
  description = "The flow matrix: who may open a connection to which role, on which port, and why. tracked = false: no connection tracking, for ports with as many connections as there are clients."
  type = list(object({
    to       = string
    from     = list(string)
    protocol = optional(string, "tcp")
    port     = number
    why      = string
    tracked  = optional(bool, true)
  }))

  validation {
    condition     = alltrue([for flow in var.flows : flow.port >= 1 && flow.port <= 65535 && contains(["tcp", "udp"], flow.protocol)])
    error_message = "A flow's port is 1 to 65535 and its protocol tcp or udp: mend the module that names it."
  }

  validation {
    condition     = alltrue([for flow in var.flows : flow.from != tolist(["clients"]) || flow.to == "edge"])
    error_message = "Only edge nodes are open to clients: name roles in `from` for every other flow."
  }
}

variable "client_cidrs" {
  description = "Where clients come from."
  type        = list(string)
}

variable "admin_cidrs" {
  description = "Where operators come from."
  type        = list(string)
}
