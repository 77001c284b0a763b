//! How much memory the process has, and how much it may have.

use std::fs;
use std::path::Path;

/// Resident bytes of this process; `None` where the system does not say.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    kib_field(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Bytes of the machine whose tree is at `root` (`/`), or of the control group where that is less.
#[must_use]
pub fn total_bytes(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let machine = kib_field(&machine, "MemTotal:")?;
    let group = fs::read_to_string(root.join("sys/fs/cgroup/memory.max")).ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    Some(group.map_or(machine, |group| group.min(machine)))
}

/// The watermark for a setting in MiB; 0 is three quarters of what there is, or no bound where that is not known.
#[must_use]
pub fn watermark_bytes(setting_mib: u32) -> usize {
    let bytes = match setting_mib {
        0 => total_bytes(Path::new("/")).map_or(0, |total| total / 4 * 3),
        mib => u64::from(mib) << 20,
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The low watermark for a setting in MiB, below the high one of so many bytes; 0 is nine tenths of that.
#[must_use]
pub fn low_watermark_bytes(setting_mib: u32, high: usize) -> usize {
    match setting_mib {
        0 => high / 10 * 9,
        mib => (mib as usize) << 20,
    }
}

/// How much of its memory the node has used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Below the low watermark.
    None,
    /// Above it: sessions without a past are told to come again, typing and presence are shed.
    Low,
    /// Above the high one: nobody is let in.
    High,
}

impl Pressure {
    /// As it is kept in an atomic.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Low,
            _ => Self::High,
        }
    }

    /// What it becomes with so many resident bytes. It falls only once they are a twentieth below the watermark. 0: no
    /// watermark.
    #[must_use]
    pub fn next(self, resident: u64, low: u64, high: u64) -> Self {
        let above = |mark: u64, pressure: Self| {
            let falls_at = if self >= pressure {
                mark - mark / 20
            } else {
                mark
            };
            mark > 0 && resident > falls_at
        };
        if above(high, Self::High) {
            Self::High
        } else if above(low, Self::Low) {
            Self::Low
        } else {
            Self::None
        }
    }
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
    fn g7_pressure_rises_at_its_watermarks_and_falls_a_twentieth_below() {
        let mut pressure = Pressure::None;
        for (resident, expected) in [
            (900, Pressure::None),
            (901, Pressure::Low),
            (856, Pressure::Low),
            (855, Pressure::None),
            (900, Pressure::None),
            (1_000, Pressure::Low),
            (1_001, Pressure::High),
            (951, Pressure::High),
            (950, Pressure::Low),
            (1_000, Pressure::Low),
            (1_001, Pressure::High),
            (10, Pressure::None),
        ] {
            pressure = pressure.next(resident, 900, 1_000);
            assert_eq!(pressure, expected, "{resident}");
            assert_eq!(Pressure::from_number(pressure as u8), pressure);
        }
        assert_eq!(Pressure::High.next(u64::MAX, 0, 0), Pressure::None);
        assert_eq!(low_watermark_bytes(0, 1_000), 900);
        assert_eq!(low_watermark_bytes(3, 1_000), 3 << 20);
    }

    #[test]
    fn this_process_is_resident_and_fits_its_machine() {
        let resident = resident_bytes().expect("Linux says so");
        let total = total_bytes(Path::new("/")).expect("Linux says so");
        assert!(resident > 0 && resident < total);
        let watermark = watermark_bytes(0) as u64;
        assert!(watermark > 0 && watermark < total);
        assert_eq!(watermark_bytes(7), 7 << 20);
    }
}
