//! What of the kernel's settings holds this node back, as configured: said once at start, with what it costs.
//!
//! Only what can be judged from the configuration is judged here; `kernel-tuning/tune verify --profile edge` compares a host with
//! everything that the profile asks for.

use super::config::{FILES_PER_RING_MAX, NodeConfig};
use super::memory;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Kernel and user space of an idle TLS session and its socket, bytes: what is asked of the memory before it is there.
const SESSION_BYTES: u64 = 6 << 10;

/// Something that is below what the configuration can make use of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The knob, as the kernel names it.
    pub knob: &'static str,
    /// As it is.
    pub is: String,
    /// As it should be.
    pub wants: String,
    /// What it costs.
    pub costs: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            knob,
            is,
            wants,
            costs,
        } = self;
        write!(f, "{knob} is {is}, better {wants}: {costs}")
    }
}

/// Everything below `root` (`/`) that holds back a node of this configuration. `descriptors`: its limit. What the kernel does
/// not have, or does not tell, holds nobody back.
#[must_use]
pub fn findings(root: &Path, config: &NodeConfig, descriptors: u64) -> Vec<Finding> {
    let host = Host(root.to_owned());
    let checks = [
        descriptor_limit(config, descriptors),
        host.backlog(config),
        host.tracked(config),
        host.memory(config),
        host.huge_pages(),
        host.governor(),
    ];
    checks.into_iter().flatten().collect()
}

fn descriptor_limit(config: &NodeConfig, descriptors: u64) -> Option<Finding> {
    let rings = config.ring.rings_per_core;
    let places = u64::from(config.ring.files_per_ring) * rings as u64;
    let useful = places.min(FILES_PER_RING_MAX);
    (rings > 1 && descriptors < useful).then(|| Finding {
        knob: "RLIMIT_NOFILE",
        is: descriptors.to_string(),
        wants: useful.to_string(),
        costs: format!(
            "each core has {rings} rings, more than its sessions need, and waits on all"
        ),
    })
}

/// A tree of /proc and /sys.
struct Host(PathBuf);

impl Host {
    fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.0.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    fn backlog(&self, config: &NodeConfig) -> Option<Finding> {
        let is = self.number("proc/sys/net/core/somaxconn")?;
        let wants = u64::from(config.admission.backlog(config.socket.backlog));
        (is < wants).then(|| Finding {
            knob: "net.core.somaxconn",
            is: is.to_string(),
            wants: wants.to_string(),
            costs: "clients of a storm that find the backlog full knock again after 1, 3 and 7 s"
                .to_owned(),
        })
    }

    fn tracked(&self, config: &NodeConfig) -> Option<Finding> {
        let is = self.number("proc/sys/net/netfilter/nf_conntrack_max")?;
        let sessions = config.admission.sessions_max as u64;
        (is < sessions).then(|| Finding {
            knob: "net.netfilter.nf_conntrack_max",
            is: is.to_string(),
            wants: format!("{sessions} (node.max_sessions), or no tracking of these ports"),
            costs: "packets of new connections are dropped once the table is full".to_owned(),
        })
    }

    fn memory(&self, config: &NodeConfig) -> Option<Finding> {
        let total = memory::total_bytes(&self.0)?;
        let fixed = (config.replay_bytes + config.body_bytes) as u64;
        let wants = config.admission.sessions_max as u64 * SESSION_BYTES + fixed;
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        (total < wants).then(|| Finding {
            knob: "MemTotal",
            is: mib(total),
            wants: format!("{} for node.max_sessions", mib(wants)),
            costs: "nobody is let in above node.memory_max_mib, before that number is reached"
                .to_owned(),
        })
    }

    fn huge_pages(&self) -> Option<Finding> {
        let is = self.text("sys/kernel/mm/transparent_hugepage/enabled")?;
        is.contains("[always]").then(|| Finding {
            knob: "transparent_hugepage/enabled",
            is: "always".to_owned(),
            wants: "madvise".to_owned(),
            costs: "tables that are touched here and there take up to 2 MiB for each place"
                .to_owned(),
        })
    }

    fn governor(&self) -> Option<Finding> {
        let is = self.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")?;
        (is != "performance" && is != "schedutil").then(|| Finding {
            knob: "scaling_governor",
            is,
            wants: "performance".to_owned(),
            costs: "a core that was idle answers late, while its clock rises".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    fn knobs(root: &Path, config: &NodeConfig) -> Vec<&'static str> {
        let found = findings(root, config, 20_000);
        found.into_iter().map(|finding| finding.knob).collect()
    }

    fn config(sessions: usize, rings: usize) -> NodeConfig {
        let mut config = NodeConfig::default();
        config.admission.sessions_max = sessions;
        config.ring.rings_per_core = rings;
        config.ring.files_per_ring = 16_384;
        config
    }

    #[test]
    fn what_holds_a_large_node_back_is_named_and_what_does_not_is_not() {
        let poor = host(&[
            ("proc/sys/net/core/somaxconn", "128\n"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "65536\n"),
            (
                "proc/meminfo",
                "MemTotal:        2097152 kB\nMemFree: 1 kB\n",
            ),
            (
                "sys/kernel/mm/transparent_hugepage/enabled",
                "[always] madvise never\n",
            ),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "powersave\n",
            ),
        ]);
        let all = [
            "RLIMIT_NOFILE",
            "net.core.somaxconn",
            "net.netfilter.nf_conntrack_max",
            "MemTotal",
            "transparent_hugepage/enabled",
            "scaling_governor",
        ];
        assert_eq!(knobs(poor.path(), &config(1_000_000, 4)), all);
        let rich = host(&[
            ("proc/sys/net/core/somaxconn", "65535\n"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "4194304\n"),
            ("proc/meminfo", "MemTotal:       67108864 kB\n"),
            (
                "sys/kernel/mm/transparent_hugepage/enabled",
                "always [madvise] never\n",
            ),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "performance\n",
            ),
        ]);
        assert!(knobs(rich.path(), &config(1_000_000, 1)).is_empty());
    }

    #[test]
    fn what_the_kernel_does_not_have_or_say_holds_nobody_back() {
        let empty = host(&[("proc/sys/net/core/somaxconn", "many")]);
        assert!(knobs(empty.path(), &config(1_000_000, 1)).is_empty());
    }

    #[test]
    fn a_finding_says_what_is_what_should_be_and_what_it_costs() {
        let root = host(&[("proc/sys/net/core/somaxconn", "128")]);
        let found = findings(root.path(), &config(1_000, 1), 20_000);
        let words = found[0].to_string();
        assert!(
            words.starts_with("net.core.somaxconn is 128, better "),
            "{words}"
        );
        assert!(words.contains("knock again"), "{words}");
    }
}
