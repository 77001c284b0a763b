//! What processes cost, from /proc alone: no server's own counters.

use std::fs;

/// Clock ticks of /proc are 10 ms on every Linux machine of ours (USER_HZ is 100 by the kernel's interface).
const TICK_US: u64 = 10_000;

/// A server's processes at one instant, summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user space, microseconds, in steps of 10,000.
    pub user_us: u64,
    /// CPU time in the kernel, likewise.
    pub system_us: u64,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
}

impl Usage {
    /// Reads the processes that are still there; one that is gone counts for nothing.
    #[must_use]
    pub fn read(pids: &[u32]) -> Self {
        let mut sum = Self::default();
        for pid in pids {
            let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
            if let Some(stat) = file("stat").ok().as_deref().and_then(Stat::parse) {
                sum.user_us += stat.user_ticks * TICK_US;
                sum.system_us += stat.system_ticks * TICK_US;
            }
            let status = file("status").ok();
            let rss = status
                .as_deref()
                .and_then(|status| kilobytes(status, "VmRSS"));
            sum.rss_bytes += rss.unwrap_or(0) * 1024;
        }
        sum
    }

    /// CPU time in all, microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> u64 {
        self.user_us + self.system_us
    }

    /// What was used since an earlier reading: CPU times; memory as it is now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
            rss_bytes: self.rss_bytes,
        }
    }
}

/// The kernel's slab memory, bytes: both ends of every connection of this machine are in it.
#[must_use]
pub fn slab_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kilobytes(&meminfo, "Slab").unwrap_or(0) * 1024
}

/// A process and all that descend from it, as of now.
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = numbers
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, Stat::parse(&stat)?.parent))
        })
        .collect();
    descend(pid, &parents)
}

fn descend(pid: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        let children = parents
            .iter()
            .filter(|(child, of)| *of == parent && !found.contains(child));
        let children: Vec<u32> = children.map(|(child, _)| *child).collect();
        found.extend(children);
        at += 1;
    }
    found
}

/// Fields of /proc/PID/stat (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

impl Stat {
    /// The command's name is in brackets and may hold anything, brackets and spaces too.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            user_ticks: fields.get(11)?.parse().ok()?,
            system_ticks: fields.get(12)?.parse().ok()?,
        })
    }
}

/// The value of a line `Name:   123 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_moves_no_field() {
        let line =
            "42 (a) b (c)) S 7 42 42 0 -1 4194304 1 2 3 4 150 250 9 9 20 0 3 0 100 1 2 3 4\n";
        let stat = Stat {
            parent: 7,
            user_ticks: 150,
            system_ticks: 250,
        };
        assert_eq!(Stat::parse(line), Some(stat));
        assert_eq!(Stat::parse("42 (a) S 7 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn lines_are_found_by_their_whole_name() {
        let text = "VmRSSX:  1 kB\nVmRSS:\t 2048 kB\nSlab: x kB\n";
        assert_eq!(kilobytes(text, "VmRSS"), Some(2_048));
        assert_eq!(kilobytes(text, "Slab"), None);
        assert_eq!(kilobytes(text, "VmSize"), None);
    }

    #[test]
    fn descendants_of_descendants_belong_to_the_family_and_a_loop_ends() {
        let parents = [(2, 1), (3, 2), (4, 9), (5, 3), (1, 5)];
        assert_eq!(descend(1, &parents), [1, 2, 3, 5]);
        assert!(family(std::process::id()).contains(&std::process::id()));
    }

    #[test]
    fn this_process_has_memory_and_work_costs_it_time() {
        let before = Usage::read(&[std::process::id()]);
        assert!(before.rss_bytes > 100_000);
        let begun = std::time::Instant::now();
        let mut sum = 0_u64;
        while begun.elapsed().as_millis() < 300 {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        std::hint::black_box(sum);
        let spent = Usage::read(&[std::process::id()]).since(&before);
        assert!(spent.cpu_us() >= TICK_US, "{spent:?}");
        assert!(slab_bytes() > 0);
        assert_eq!(Usage::read(&[u32::MAX]), Usage::default());
    }
}
