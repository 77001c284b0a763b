# Hosts of Hetzner Cloud for what environments/dev rendered: an example, formatted in CI and not validated there,
# as its provider is fetched from a registry. Bare metal of theirs takes the same user-data by its installer.
#   terraform -chdir=../../environments/dev output -json user_data > user_data.json && terraform init && terraform apply
terraform {
  required_version = ">= 1.9"
  required_providers {
    hcloud = { source = "hetznercloud/hcloud", version = "~> 1.48" }
  }
}

variable "hosts" {
  description = "Type and place of each host, by the names of environments/dev, and its address in the private network."
  type        = map(object({ server_type = string, location = string, address = string }))
}

variable "network_id" {
  description = "Private network that the addresses are of."
  type        = number
}

locals {
  user_data = jsondecode(file("${path.module}/user_data.json"))
}

resource "hcloud_server" "host" {
  for_each    = var.hosts
  name        = each.key
  image       = "debian-12"
  server_type = each.value.server_type
  location    = each.value.location
  user_data   = local.user_data[each.key]

  network {
    network_id = var.network_id
    ip         = each.value.address
  }
}
