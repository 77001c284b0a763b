# Virtual machines on one libvirt host for what environments/dev rendered, to try a first boot: an example, formatted
# in CI and not validated there, as its provider is fetched from a registry.
#   terraform -chdir=../../environments/dev output -json user_data > user_data.json && terraform init && terraform apply
terraform {
  required_version = ">= 1.9"
  required_providers {
    libvirt = { source = "dmacvicar/libvirt", version = "~> 0.8.0" }
  }
}

provider "libvirt" {
  uri = "qemu:///system"
}

variable "image" {
  description = "Path or address of Debian 12's generic cloud image (qcow2)."
  type        = string
}

variable "hosts" {
  description = "Address of each machine, by the names of environments/dev."
  type        = map(object({ address = string, cores = optional(number, 2), memory_mib = optional(number, 4096) }))
}

locals {
  user_data = jsondecode(file("${path.module}/user_data.json"))
}

resource "libvirt_volume" "base" {
  name   = "hawser-debian-12"
  source = var.image
}

resource "libvirt_volume" "disk" {
  for_each       = var.hosts
  name           = "hawser-${each.key}"
  base_volume_id = libvirt_volume.base.id
  size           = 20 * 1024 * 1024 * 1024
}

resource "libvirt_cloudinit_disk" "seed" {
  for_each  = var.hosts
  name      = "hawser-${each.key}.iso"
  user_data = local.user_data[each.key]
}

resource "libvirt_domain" "host" {
  for_each  = var.hosts
  name      = "hawser-${each.key}"
  vcpu      = each.value.cores
  memory    = each.value.memory_mib
  cloudinit = libvirt_cloudinit_disk.seed[each.key].id

  disk {
    volume_id = libvirt_volume.disk[each.key].id
  }

  network_interface {
    network_name = "default"
    addresses    = [each.value.address]
  }
}
