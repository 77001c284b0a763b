output "user_data" {
  description = "cloud-init user-data. Without secrets."
  value       = "#cloud-config\n${yamlencode(local.user_data)}"
}

output "files" {
  description = "Files of the host as they are before secrets are filled in, by path."
  value       = { for file in local.laid : file.path => file.content }
}

output "secrets" {
  description = "Names of the secrets that the host needs."
  value       = local.told.secrets
}
