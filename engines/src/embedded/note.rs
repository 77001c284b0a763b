//! The note beside the database: what was about to be acknowledged, written before every
//! acknowledgement without an fsync of its own.
//!
//! It tells a torn tail that nobody was promised from the loss of something acknowledged. While the
//! machine has not rebooted the page cache makes it exact; after a reboot it may be old, and
//! recovery then takes the careful view.

use super::batch::Parts;
use super::tables::DURABLE;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const MAGIC: &[u8; 4] = b"HWN3";
/// magic 4 | clean 1 | boot 16 | batch 8 | totals of the durable topics 80 | crc 4.
const BYTES: usize = bytes(DURABLE.len());
/// Earlier versions knew the first topics, so many.
const EARLIER: [(&[u8; 4], usize); 2] = [(b"HWN1", bytes(5)), (b"HWN2", bytes(9))];

const fn bytes(topics: usize) -> usize {
    33 + 8 * topics
}

/// How often the note itself is synced.
const SYNC_EVERY: Duration = Duration::from_secs(10);

/// What the note says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted {
    /// The database was closed in order.
    pub(super) clean: bool,
    /// Which boot of the machine it was written in.
    pub(super) boot: [u8; 16],
    /// Number of the last batch that was acknowledged.
    pub(super) batch: u64,
    /// Records ever appended to each durable topic, over its partitions.
    pub(super) totals: [u64; DURABLE.len()],
}

/// The open note file.
pub(super) struct Note {
    file: File,
    boot: [u8; 16],
    synced: Instant,
    dirty: bool,
    failed: bool,
}

impl Note {
    /// Opens or creates.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        Ok(Self {
            file,
            boot: boot_id(),
            synced: Instant::now(),
            dirty: false,
            failed: false,
        })
    }

    /// What it says; `None` when it is new, torn or of another version.
    pub(super) fn read(&self) -> Option<Noted> {
        let mut magic = [0; 4];
        self.file.read_exact_at(&mut magic, 0).ok()?;
        let earlier = EARLIER.iter().find(|(known, _)| **known == magic);
        let mut bytes = vec![0; earlier.map_or(BYTES, |(_, len)| *len)];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        decode(&bytes)
    }

    /// Whether `noted` was written since the machine booted, so that it is exact.
    pub(super) fn same_boot(&self, noted: &Noted) -> bool {
        self.boot != [0; 16] && noted.boot == self.boot
    }

    /// The database is open and stands here; synced.
    pub(super) fn opened(&mut self, batch: u64, parts: &Parts) -> std::io::Result<()> {
        self.write(false, batch, parts)?;
        self.file.sync_all()
    }

    /// Everything up to this batch is about to be acknowledged. Costs one write to the page cache.
    pub(super) fn acknowledging(&mut self, batch: u64, parts: &Parts) {
        self.dirty = true;
        if let Err(error) = self.write(false, batch, parts)
            && !std::mem::replace(&mut self.failed, true)
        {
            tracing::warn!(%error, "the note of what was acknowledged cannot be written");
        }
    }

    /// Syncs now and then, so that after a power loss it is seconds old, not hours.
    pub(super) fn sync_sometimes(&mut self) {
        if self.dirty && self.synced.elapsed() >= SYNC_EVERY {
            self.dirty = false;
            self.synced = Instant::now();
            // Only narrows what recovery must be careful about.
            let _ = self.file.sync_data();
        }
    }

    /// The database is closed in order at this batch.
    pub(super) fn closing(&mut self, batch: u64, parts: &Parts) {
        let written = self.write(true, batch, parts);
        if let Err(error) = written.and_then(|()| self.file.sync_all()) {
            tracing::warn!(%error, "the orderly close cannot be noted");
        }
    }

    fn write(&self, clean: bool, batch: u64, parts: &Parts) -> std::io::Result<()> {
        let noted = Noted {
            clean,
            boot: self.boot,
            batch,
            totals: totals(parts),
        };
        self.file.write_all_at(&encode(&noted), 0)
    }
}

/// Records ever appended to each durable topic.
pub(super) fn totals(parts: &Parts) -> [u64; DURABLE.len()] {
    DURABLE.map(|topic| parts.topic(topic).iter().map(|row| row.next).sum())
}

fn encode(noted: &Noted) -> Vec<u8> {
    let mut out = Vec::with_capacity(BYTES);
    out.extend_from_slice(MAGIC);
    out.push(u8::from(noted.clean));
    out.extend_from_slice(&noted.boot);
    out.extend_from_slice(&noted.batch.to_le_bytes());
    for total in noted.totals {
        out.extend_from_slice(&total.to_le_bytes());
    }
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<Noted> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let all = EARLIER.into_iter().chain([(MAGIC, BYTES)]);
    let mut known = all.filter(|(_, len)| *len == bytes.len());
    let known = known.any(|(magic, _)| body.starts_with(magic));
    if crc32fast::hash(body).to_le_bytes() != *crc || !known {
        return None;
    }
    let mut reader = super::codec::Reader::new(&body[4..]);
    let clean = reader.u8()? != 0;
    let boot = reader.bytes(16)?.try_into().ok()?;
    let batch = reader.u64()?;
    let mut totals = [0; DURABLE.len()];
    for (total, bytes) in totals.iter_mut().zip(reader.rest().chunks_exact(8)) {
        *total = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    Some(Noted {
        clean,
        boot,
        batch,
        totals,
    })
}

/// Identity of this boot; zeros when the system does not say, which equals no boot.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&hex, 16).unwrap_or(0).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_round_trips_and_a_torn_one_says_nothing() {
        let noted = Noted {
            clean: true,
            boot: [7; 16],
            batch: 9,
            totals: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        };
        let bytes: [u8; BYTES] = encode(&noted).try_into().unwrap();
        assert_eq!(decode(&bytes), Some(noted));
        for i in 0..BYTES * 8 {
            let mut bad = bytes;
            bad[i / 8] ^= 1 << (i % 8);
            assert_eq!(decode(&bad), None, "bit {i}");
        }
    }

    #[test]
    fn a_note_of_an_earlier_version_is_read() {
        for (magic, len) in EARLIER {
            let mut noted = Noted {
                clean: true,
                boot: [7; 16],
                batch: 9,
                totals: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
            };
            let mut old = encode(&noted);
            old.truncate(len - 4);
            old[..4].copy_from_slice(magic);
            let crc = crc32fast::hash(&old);
            old.extend_from_slice(&crc.to_le_bytes());
            noted.totals[(len - 33) / 8..].fill(0);
            assert_eq!(decode(&old), Some(noted));
            let path =
                std::env::temp_dir().join(format!("hawser-note-{}-{len}", std::process::id()));
            std::fs::write(&path, &old).unwrap();
            let read = Note::open(&path).unwrap().read();
            std::fs::remove_file(&path).unwrap();
            assert_eq!(read, Some(noted));
        }
    }
}
