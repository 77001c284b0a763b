//! How much memory the process has, and how much it may have.

use std::fs;

/// Resident bytes of this process; `None` where the system does not say.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    kib_field(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Bytes of the machine, or of the control group where that is less.
#[must_use]
pub fn total_bytes() -> Option<u64> {
    let machine = kib_field(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    Some(group.map_or(machine, |group| group.min(machine)))
}

/// The watermark for a setting in MiB; 0 is three quarters of what there is, or no bound where that is not known.
#[must_use]
pub fn watermark_bytes(setting_mib: u32) -> usize {
    let bytes = match setting_mib {
        0 => total_bytes().map_or(0, |total| total / 4 * 3),
        mib => u64::from(mib) << 20,
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// `Name:   123 kB` of a /proc file, in bytes.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_in_kib_is_read_as_bytes() {
        assert_eq!(
            kib_field("VmPeak: 9 kB\nVmRSS:\t   12 kB\n", "VmRSS:"),
            Some(12_288)
        );
        assert_eq!(kib_field("VmRSS: many kB\n", "VmRSS:"), None);
        assert_eq!(kib_field("", "VmRSS:"), None);
    }

    #[test]
    fn this_process_is_resident_and_fits_its_machine() {
        let resident = resident_bytes().expect("Linux says so");
        let total = total_bytes().expect("Linux says so");
        assert!(resident > 0 && resident < total);
        let watermark = watermark_bytes(0) as u64;
        assert!(watermark > 0 && watermark < total);
        assert_eq!(watermark_bytes(7), 7 << 20);
    }
}
