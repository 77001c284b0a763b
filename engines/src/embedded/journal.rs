//! A read-only look at the storage engine's journals before it opens them.
//!
//! On a wrong tag, length or trailer the storage engine cuts its journal at the last good entry and
//! says nothing, wherever in the file that is; on a wrong checksum it refuses to open. Both would be
//! wrong here: a loss must be said, and a last good record is to be kept. So this walks the same
//! format first (version 3; the version marker is checked), finds the end of the last good batch, and
//! lets recovery set aside and cut what is behind it.

use super::meta::{BATCH_KEY, BatchRow, decode_batch};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// What a trailer ends with: magic and version of the storage engine.
const MAGIC: [u8; 4] = [b'F', b'J', b'L', 3];
/// The storage engine panics when it is to give this number to a batch.
const SEQNO_END: u64 = 1 << 63;
/// No value in a journal is larger: bounds what a damaged length can make this allocate.
const VALUE_BYTES_MAX: u32 = 64 << 20;

/// What the journals hold.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The last good batch of the engine's own, if any is in the journals.
    pub(super) last: Option<BatchRow>,
    /// Where the good part ends before its time.
    pub(super) damage: Option<Damage>,
}

/// Damage: everything from here on must go.
#[derive(Debug)]
pub(super) struct Damage {
    /// Journals in order, beginning with the damaged one.
    pub(super) journals: Vec<PathBuf>,
    /// End of the last good batch in the first of them.
    pub(super) good_bytes: u64,
    /// Bytes behind it that are not zero padding.
    pub(super) bad_bytes: u64,
    /// What was found.
    pub(super) what: &'static str,
}

/// Why the walk of one journal ended.
enum End {
    /// At a batch boundary, with nothing but zero padding behind.
    Clean,
    /// Something else.
    Bad(&'static str),
}

/// Walks all journals in `db`. An unknown version of the storage engine is not touched.
pub(super) fn scan(db: &Path) -> std::io::Result<Scan> {
    let mut scan = Scan::default();
    if std::fs::read(db.join("version")).ok().as_deref() != Some(&MAGIC[..]) {
        return Ok(scan);
    }
    let journals = journals(db)?;
    let mut seqno = None;
    for (i, path) in journals.iter().enumerate() {
        let mut walk = Walk::open(path, seqno)?;
        let end = walk.run(&mut scan.last)?;
        let bad_bytes = padding_ends(path, walk.good)?;
        let what = match end {
            End::Bad(what) => what,
            End::Clean if bad_bytes == 0 => {
                seqno = walk.seqno;
                continue;
            }
            End::Clean => "bytes behind the end",
        };
        scan.damage = Some(Damage {
            journals: journals[i..].to_vec(),
            good_bytes: walk.good,
            bad_bytes,
            what,
        });
        break;
    }
    Ok(scan)
}

/// Journal files, oldest first.
fn journals(db: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(db)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str());
        let number = name.and_then(|n| n.strip_suffix(".jnl")?.parse::<u64>().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Bytes from `from` to the last byte that is not zero.
fn padding_ends(path: &Path, from: u64) -> std::io::Result<u64> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut at, mut last) = (0_u64, 0_u64);
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(last);
        }
        if let Some(i) = chunk.iter().rposition(|b| *b != 0) {
            last = at + i as u64 + 1;
        }
        let n = chunk.len();
        at += n as u64;
        reader.consume(n);
    }
}

struct Walk {
    reader: BufReader<File>,
    at: u64,
    len: u64,
    /// End of the last good batch.
    good: u64,
    /// Number that the storage engine gave the last batch; they only grow.
    seqno: Option<u64>,
    buf: Vec<u8>,
}

impl Walk {
    fn open(path: &Path, seqno: Option<u64>) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self {
            reader: BufReader::with_capacity(1 << 20, file),
            at: 0,
            len,
            good: 0,
            seqno,
            buf: Vec::new(),
        })
    }

    /// Reads `n` bytes; `None` at the end of the file.
    fn read(&mut self, n: usize) -> std::io::Result<Option<&[u8]>> {
        if self.at + n as u64 > self.len {
            return Ok(None);
        }
        self.buf.resize(n, 0);
        self.reader.read_exact(&mut self.buf)?;
        self.at += n as u64;
        Ok(Some(&self.buf))
    }

    fn read_array<const N: usize>(&mut self) -> std::io::Result<Option<[u8; N]>> {
        Ok(self.read(N)?.and_then(|b| b.try_into().ok()))
    }

    /// Walks batches until the end, following the engine's own batch rows.
    fn run(&mut self, last: &mut Option<BatchRow>) -> std::io::Result<End> {
        loop {
            let Some([tag]) = self.read_array::<1>()? else {
                return Ok(End::Clean);
            };
            match tag {
                0 => return Ok(End::Clean),
                1 => {}
                _ => return Ok(End::Bad("a batch that does not begin")),
            }
            let Some(start) = self.read_array::<12>()? else {
                return Ok(End::Bad("a torn batch"));
            };
            let items = u32::from_le_bytes([start[0], start[1], start[2], start[3]]);
            let [_, _, _, _, seqno @ ..] = start;
            let seqno = u64::from_le_bytes(seqno);
            // No checksum covers the number. One of the upper half would be the storage engine's last.
            if seqno >= SEQNO_END || self.seqno.is_some_and(|before| seqno <= before) {
                return Ok(End::Bad("a batch out of order"));
            }
            let mut hash = Xxh3::new();
            let mut row = None;
            for _ in 0..items {
                if let Some(what) = self.item(&mut hash, &mut row)? {
                    return Ok(End::Bad(what));
                }
            }
            let Some(end) = self.read_array::<13>()? else {
                return Ok(End::Bad("a torn batch"));
            };
            let (checksum, trailer) = end[1..].split_at(8);
            if end[0] != 3 || *trailer != MAGIC {
                return Ok(End::Bad("a batch that does not end"));
            }
            if *checksum != hash.digest().to_le_bytes() {
                return Ok(End::Bad("a wrong checksum"));
            }
            if let Some(row) = row {
                let gap = last
                    .as_ref()
                    .is_some_and(|l| !row.resync && row.number != l.number + 1);
                if gap {
                    return Ok(End::Bad("a missing batch"));
                }
                *last = Some(row);
            }
            self.seqno = Some(seqno);
            self.good = self.at;
        }
    }

    /// Walks one item of a batch; says what is wrong with it.
    fn item(
        &mut self,
        hash: &mut Xxh3,
        row: &mut Option<BatchRow>,
    ) -> std::io::Result<Option<&'static str>> {
        const TORN: Option<&str> = Some("a torn batch");
        let Some([tag]) = self.read_array::<1>()? else {
            return Ok(TORN);
        };
        hash.update(&[tag]);
        if tag == 4 {
            let Some(keyspace) = self.read_array::<8>()? else {
                return Ok(TORN);
            };
            hash.update(&keyspace);
            return Ok(None);
        }
        if tag != 2 {
            return Ok(Some("an item of unknown kind"));
        }
        // type 1 | compression 1 | keyspace 8 | key length 2 | value length 4 | length on disk 4
        let Some(head) = self.read_array::<20>()? else {
            return Ok(TORN);
        };
        hash.update(&head);
        let key_len = usize::from(u16::from_le_bytes([head[10], head[11]]));
        let value_len = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
        if value_len > VALUE_BYTES_MAX {
            return Ok(Some("an item of impossible length"));
        }
        let is_row = match self.read(key_len)? {
            Some(key) => {
                hash.update(key);
                key == BATCH_KEY
            }
            None => return Ok(TORN),
        };
        let Some(value) = self.read(value_len as usize)? else {
            return Ok(TORN);
        };
        hash.update(value);
        if is_row {
            *row = decode_batch(value);
        }
        Ok(None)
    }
}

impl Damage {
    /// Copies what must go to `aside`, then cuts it off. Returns the bytes cut.
    pub(super) fn cut(&self, aside: &Path) -> std::io::Result<u64> {
        let Some((first, later)) = self.journals.split_first() else {
            return Ok(0);
        };
        std::fs::create_dir_all(aside)?;
        let mut cut = self.bad_bytes;
        let name = |path: &Path| path.file_name().unwrap_or_default().to_os_string();
        let mut tail = name(first);
        tail.push(format!(".from-{}", self.good_bytes));
        let mut source = File::open(first)?;
        source.seek(SeekFrom::Start(self.good_bytes))?;
        let mut copy = File::create(aside.join(tail))?;
        std::io::copy(&mut source.take(self.bad_bytes), &mut copy)?;
        copy.sync_all()?;
        for path in later {
            cut += path.metadata()?.len();
            std::fs::copy(path, aside.join(name(path)))?;
        }
        File::open(aside)?.sync_all()?;
        // Newest first: a crash in between leaves damage that is found again.
        for path in later.iter().rev() {
            std::fs::remove_file(path)?;
        }
        let file = OpenOptions::new().write(true).open(first)?;
        file.set_len(self.good_bytes)?;
        file.sync_all()?;
        if let Some(db) = first.parent() {
            File::open(db)?.sync_all()?;
        }
        Ok(cut)
    }
}
