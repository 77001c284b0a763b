# The cloud-init user-data of one host. It holds no secret: files that need one are templates, and
# `hawser-host start` writes them when the secrets have come by another way.

locals {
  tuning = "${path.module}/../../../kernel-tuning"
  own    = "${path.module}/../../files"

  packages = sort(distinct(concat(
    ["ca-certificates", "chrony", "curl", "ethtool", "nftables", "prometheus-node-exporter", "python3"],
    var.part.packages,
  )))

  # The role's own part of kernel-tuning/'s table, for user-data has a bound. What is made from the table for others is not
  # needed here, for `tune` reads the table itself, nor what makes it.
  knobs = split("[[knob]]\n", file("${local.tuning}/knobs.toml"))
  table = join("[[knob]]\n", concat(
    [replace(local.knobs[0], "/(?m)^profiles = .*$/", "profiles = [\"${var.host.role}\"]")],
    [for knob in slice(local.knobs, 1, length(local.knobs)) : knob if length(regexall("(?m)^profiles = .*\"(?:all|${var.host.role})\"", knob)) > 0],
  ))

  # Everything else exactly as it is there.
  tuning_files = concat(
    [
      { source = "tune", path = "/opt/hawser/kernel-tuning/tune", mode = "0755" },
      { source = "limits.d/60-hawser.conf", path = "/etc/security/limits.d/60-hawser.conf", mode = "0644" },
      { source = "modules-load.d/hawser.conf", path = "/etc/modules-load.d/hawser.conf", mode = "0644" },
      { source = "systemd/hawser-tune.service", path = "/etc/systemd/system/hawser-tune.service", mode = "0644" },
    ],
    [for name in sort(setsubtract(fileset(local.tuning, "tuning/*.py"), ["tuning/generate.py"])) :
    { source = name, path = "/opt/hawser/kernel-tuning/${name}", mode = "0644" }],
  )

  files = concat(
    [for file in local.tuning_files : { path = file.path, content = file("${local.tuning}/${file.source}"), owner = "root:root", mode = file.mode }],
    [
      { path = "/opt/hawser/kernel-tuning/knobs.toml", content = local.table, owner = "root:root", mode = "0644" },
      { path = "/opt/hawser/bin/hawser-host", content = file("${local.own}/hawser-host"), owner = "root:root", mode = "0755" },
      { path = "/etc/hawser/tune.env", content = "HAWSER_TUNE_PROFILE=${var.host.role}\n", owner = "root:root", mode = "0644" },
      { path = "/etc/nftables.conf", content = var.ruleset, owner = "root:root", mode = "0755" },
      { path = "/etc/default/prometheus-node-exporter", content = "ARGS=\"--collector.systemd --web.listen-address=${var.host.address}:9100\"\n", owner = "root:root", mode = "0644" },
    ],
    [for name in ["hawser-verify.service", "hawser-verify.timer", "hawser-secrets.path", "hawser-start.service"] :
    { path = "/etc/systemd/system/${name}", content = file("${local.own}/${name}"), owner = "root:root", mode = "0644" }],
    var.part.files,
  )

  # A file with a secret is laid down as a template.
  laid = [for file in local.files : merge(file, {
    template = length(regexall("@@secret:[a-z0-9_]+@@", file.content)) > 0
    at       = length(regexall("@@secret:[a-z0-9_]+@@", file.content)) > 0 ? "/etc/hawser/templates${file.path}" : file.path
  })]

  artifacts = [for artifact in var.part.artifacts : {
    name   = artifact.name
    to     = artifact.to
    unpack = artifact.unpack
    url    = "${trimsuffix(var.artifact_mirror, "/")}/${var.artifacts[artifact.name].file}"
    sha256 = var.artifacts[artifact.name].sha256
  }]

  told = {
    name            = var.host.name
    role            = var.host.role
    rack            = var.host.rack
    cores           = var.host.cores
    memory_gib      = var.host.memory_gib
    nics            = [for nic in var.host.nics : nic.name]
    packages        = local.packages
    artifacts       = local.artifacts
    files           = [for file in local.laid : { path = file.path, owner = file.owner, mode = file.mode, template = file.template, sha256 = sha256(file.content) }]
    directories     = concat([{ path = "/etc/hawser/secrets", owner = "root:root", mode = "0700" }], var.part.directories)
    services        = concat(["prometheus-node-exporter.service"], var.part.services)
    listens         = concat([{ what = "node_exporter", address = var.host.address, port = 9100 }], var.part.listens)
    bootstrap       = var.part.bootstrap
    secrets         = sort(distinct(var.part.secrets))
    data_mount      = var.host.data_device == null ? null : var.part.data_mount
    clock_off_max_s = 0.1
  }

  # Packages must not start with settings of their own, so this stands before they are installed, and
  # everything else is laid down after them, over their own files.
  write_files = concat(
    [{ path = "/usr/sbin/policy-rc.d", content = "#!/bin/sh\nexit 101\n", owner = "root:root", permissions = "0755" }],
    [for file in concat(local.laid, [{ at = "/etc/hawser/host.json", content = jsonencode(local.told), mode = "0600" }]) : {
      path        = file.at
      content     = base64gzip(file.content)
      encoding    = "gz+b64"
      owner       = "root:root"
      permissions = file.mode
      defer       = true
    }],
  )

  disk = { for key, value in {
    fs_setup = [{ device = var.host.data_device, filesystem = "xfs", overwrite = false }]
    mounts   = [[var.host.data_device, var.part.data_mount, "xfs", "noatime,nofail", "0", "2"]]
  } : key => value if var.host.data_device != null && var.part.data_mount != null }

  user_data = merge(local.disk, {
    hostname          = var.host.name
    fqdn              = "${var.host.name}.${var.domain}"
    preserve_hostname = false
    manage_etc_hosts  = true
    ssh_pwauth        = false
    disable_root      = true
    users = concat(
      ["default"],
      var.part.user == "" ? [] : [{ name = var.part.user, system = true, no_create_home = true, shell = "/usr/sbin/nologin", lock_passwd = true }],
    )
    ssh_authorized_keys = var.ssh_keys
    package_update      = true
    packages            = concat(local.packages, var.host.data_device == null ? [] : ["xfsprogs"])
    ntp                 = merge({ enabled = true, ntp_client = "chrony" }, length(var.time_servers) > 0 ? { servers = var.time_servers } : {})
    write_files         = local.write_files
    runcmd = [
      ["/opt/hawser/bin/hawser-host", "install"],
      ["/opt/hawser/bin/hawser-host", "verify", "--wait-s", "120"],
    ]
    final_message = "hawser: first boot done after $UPTIME s; `hawser-host verify` says what is off"
  })
}
