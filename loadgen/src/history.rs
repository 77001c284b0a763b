//! What every client did and saw, written while a run is made and read by [`crate::judge`] afterwards.
//!
//! A folder holds `run.json` (who talked to whom, the seed, the command) and one `thread-N.jsonl` per thread of the run: one
//! JSON object a line, [`Entry`]. All entries of a device are in one file, in the order in which it met them; times are
//! nanoseconds of one monotonic clock. A file stops growing at its bound and says so with a last entry `cut`; such a history
//! proves nothing and is judged as unfinished.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The page about the whole run within the folder.
const RUN_FILE: &str = "run.json";
/// Bytes collected before a write.
const BUFFER_BYTES: usize = 1 << 18;
/// An entry is never longer; a longer line is no entry.
const LINE_BYTES_MAX: u64 = 4_096;

/// A client_msg_id, in hexadecimal where it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub [u8; 16]);

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16)
            .map(|number| Self(number.to_be_bytes()))
            .map_err(serde::de::Error::custom)
    }
}

/// A message's place and what it is, as the server said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Index of the chat in `run.json`.
    pub c: u32,
    /// As the sender named it.
    pub id: Id,
    /// Place in the chat.
    pub seq: u64,
    /// The one before it; 0: none.
    pub prev: u64,
    /// Dense number within the chat, from 1.
    pub ord: u64,
}

/// One thing that a device did or saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// *Invoke*: a Send was put on the wire, or is kept for the next connection.
    Send {
        /// Index of the chat.
        c: u32,
        /// The same over all attempts.
        id: Id,
        /// The sender's number in this chat, from 1.
        n: u32,
        /// An attempt after the first.
        again: bool,
    },
    /// The log has it.
    Queued {
        /// Which.
        id: Id,
    },
    /// *Ok*: stored, and this is its place.
    Ok {
        /// Delivery offset of the answer; 0: the edge's own.
        off: u64,
        /// Where.
        #[serde(flatten)]
        place: Place,
        /// Hexadecimal.
        mid: String,
    },
    /// *Fail*: refused for good by this code.
    Fail {
        /// Which.
        id: Id,
        /// See docs/errors.md.
        error: u32,
        /// When to come again, milliseconds; 0: no hint.
        retry_ms: u32,
    },
    /// *Unknown*: an attempt may have been accepted or not; it is sent again under the same id, or the run ended.
    Unknown {
        /// Which.
        id: Id,
    },
    /// A session began.
    Welcome {
        /// It goes on where it was.
        recovered: bool,
    },
    /// Replay has ended.
    CaughtUp,
    /// A message came.
    Deliver {
        /// Delivery offset.
        off: u64,
        /// Where.
        #[serde(flatten)]
        place: Place,
        /// The sender's number; 0: not a message of a load generator.
        n: u32,
        /// Index of the sending user; the reader's own when unknown.
        from: u32,
        /// Before CaughtUp.
        replayed: bool,
    },
    /// A watermark moved.
    Receipt {
        /// Delivery offset.
        off: u64,
    },
    /// The device acknowledged.
    Ack {
        /// Cumulative.
        off: u64,
    },
    /// The connection is gone.
    Close {
        /// 0: without a code.
        code: u16,
        /// In words.
        #[serde(default)]
        why: String,
    },
    /// The last sweep: a message of history.
    Row {
        /// Where.
        #[serde(flatten)]
        place: Place,
        /// The sender's number; 0: not a message of a load generator.
        n: u32,
    },
    /// The last sweep: a chat was read to its end.
    Swept {
        /// Which.
        c: u32,
        /// Ordinals below are beyond retention.
        truncated_before: u64,
    },
    /// The file reached its bound: what followed is not here.
    Cut,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Nanoseconds since the run began.
    pub t: u64,
    /// Index of the user.
    pub u: u32,
    /// What.
    #[serde(flatten)]
    pub op: Op,
}

impl Entry {
    /// The message that it is about.
    #[must_use]
    pub fn id(&self) -> Option<Id> {
        match &self.op {
            Op::Send { id, .. } | Op::Queued { id } | Op::Fail { id, .. } | Op::Unknown { id } => {
                Some(*id)
            }
            Op::Ok { place, .. } | Op::Deliver { place, .. } | Op::Row { place, .. } => {
                Some(place.id)
            }
            _ => None,
        }
    }
}

/// A chat and who is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    /// Its id.
    pub chat: String,
    /// Indices of its users.
    pub members: Vec<u32>,
}

/// The run as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The command line.
    pub command: String,
    /// Wall clock of the run's begin, milliseconds since 1970: `t` counts from there, to some milliseconds.
    pub began_ms: u64,
    /// Seed of the schedule.
    pub seed: u64,
    /// Users are this and a number.
    pub prefix: String,
    /// By index.
    pub chats: Vec<Chat>,
}

/// Why a history cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The system's.
    #[error("--history {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Its words.
        source: std::io::Error,
    },
    /// A line is no entry.
    #[error("{path}, line {line}: {source}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong.
        source: serde_json::Error,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> HistoryError {
    let path = path.to_owned();
    move |source| HistoryError::Io { path, source }
}

/// Makes the folder of a history and writes down the run. Files of an earlier run there are removed.
///
/// # Errors
/// The folder cannot be written.
pub fn begin(dir: &Path, run: &Run) -> Result<(), HistoryError> {
    std::fs::create_dir_all(dir).map_err(io(dir))?;
    for path in threads(dir)? {
        std::fs::remove_file(&path).map_err(io(&path))?;
    }
    let path = dir.join(RUN_FILE);
    let text = serde_json::to_vec(run).unwrap_or_default();
    std::fs::write(&path, text).map_err(io(&path))
}

/// The run of a history.
///
/// # Errors
/// It is not there, or not ours.
pub fn run(dir: &Path) -> Result<Run, HistoryError> {
    let path = dir.join(RUN_FILE);
    let text = std::fs::read(&path).map_err(io(&path))?;
    serde_json::from_slice(&text).map_err(|source| HistoryError::Line {
        path,
        line: 1,
        source,
    })
}

/// Reads every entry, file by file. A last line that a killed writer left in part is not an entry.
///
/// # Errors
/// A file cannot be read, or a line in its middle is no entry.
pub fn read(dir: &Path, mut each: impl FnMut(Entry)) -> Result<(), HistoryError> {
    for path in threads(dir)? {
        let mut file =
            BufReader::with_capacity(BUFFER_BYTES, File::open(&path).map_err(io(&path))?);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let mut bounded = std::io::Read::take(&mut file, LINE_BYTES_MAX);
            bounded.read_until(b'\n', &mut line).map_err(io(&path))?;
            if line.last() != Some(&b'\n') && line.len() as u64 != LINE_BYTES_MAX {
                break;
            }
            match serde_json::from_slice(&line) {
                Ok(entry) => each(entry),
                Err(source) => {
                    return Err(HistoryError::Line {
                        path,
                        line: number,
                        source,
                    });
                }
            }
        }
    }
    Ok(())
}

fn threads(dir: &Path) -> Result<Vec<PathBuf>, HistoryError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io(dir))? {
        let path = entry.map_err(io(dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("thread-") && name.ends_with(".jsonl") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The file of one thread.
pub struct Writer {
    file: BufWriter<File>,
    line: Vec<u8>,
    left: u64,
    cut: bool,
}

impl Writer {
    /// In a folder that [`begin`] made, of at most so many bytes.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(dir: &Path, thread: u32, bytes_max: u64) -> Result<Self, HistoryError> {
        let path = dir.join(format!("thread-{thread:03}.jsonl"));
        let file = File::create(&path).map_err(io(&path))?;
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            line: Vec::new(),
            left: bytes_max,
            cut: false,
        })
    }

    /// Adds an entry. At the bound, and when the disk refuses, the history is cut.
    pub fn add(&mut self, entry: &Entry) {
        if self.cut {
            return;
        }
        self.line.clear();
        if serde_json::to_writer(&mut self.line, entry).is_err() {
            return;
        }
        self.line.push(b'\n');
        let len = self.line.len() as u64;
        if len > self.left || self.file.write_all(&self.line).is_err() {
            self.cut = true;
            let _ = self.file.write_all(b"{\"t\":0,\"u\":0,\"op\":\"cut\"}\n");
            return;
        }
        self.left -= len;
    }

    /// Writes out what is collected. Says whether everything is in the file.
    pub fn finish(&mut self) -> bool {
        self.file.flush().is_ok() && !self.cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(n: u8) -> Place {
        Place {
            c: 1,
            id: Id([n; 16]),
            seq: 7,
            prev: 3,
            ord: 2,
        }
    }

    fn all() -> Vec<Entry> {
        let ops = vec![
            Op::Send {
                c: 1,
                id: Id([1; 16]),
                n: 4,
                again: true,
            },
            Op::Queued { id: Id([1; 16]) },
            Op::Ok {
                off: 3,
                place: place(1),
                mid: "00ff".to_owned(),
            },
            Op::Fail {
                id: Id([2; 16]),
                error: 9,
                retry_ms: 100,
            },
            Op::Unknown { id: Id([3; 16]) },
            Op::Welcome { recovered: true },
            Op::CaughtUp,
            Op::Deliver {
                off: 9,
                place: place(2),
                n: 4,
                from: 2,
                replayed: false,
            },
            Op::Receipt { off: 10 },
            Op::Ack { off: 10 },
            Op::Close {
                code: 4203,
                why: "closed by the server with 4203".to_owned(),
            },
            Op::Row {
                place: place(2),
                n: 4,
            },
            Op::Swept {
                c: 1,
                truncated_before: 0,
            },
        ];
        (0..)
            .zip(ops)
            .map(|(t, op)| Entry { t, u: 1, op })
            .collect()
    }

    fn wrote(bytes_max: u64) -> Vec<Entry> {
        let dir = tempfile::TempDir::new().expect("a folder");
        let run = Run {
            command: "x".to_owned(),
            began_ms: 5,
            seed: 1,
            prefix: "u".to_owned(),
            chats: Vec::new(),
        };
        begin(dir.path(), &run).expect("begun");
        let mut writer = Writer::create(dir.path(), 0, bytes_max).expect("a file");
        all().iter().for_each(|entry| writer.add(entry));
        writer.finish();
        assert_eq!(super::run(dir.path()).expect("a run"), run);
        let mut entries = Vec::new();
        read(dir.path(), |entry| entries.push(entry)).expect("read");
        entries
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(wrote(u64::MAX), all());
    }

    #[test]
    fn a_full_history_says_that_it_is_cut() {
        let entries = wrote(200);
        assert_eq!(entries.last().map(|e| &e.op), Some(&Op::Cut));
        assert!(entries.len() < all().len());
    }

    #[test]
    fn a_line_in_part_at_the_end_is_ignored_and_one_in_the_middle_is_named() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let path = dir.path().join("thread-000.jsonl");
        std::fs::write(&path, "{\"t\":1,\"u\":0,\"op\":\"caught_up\"}\n{\"t\":2,")
            .expect("written");
        let mut count = 0;
        read(dir.path(), |_| count += 1).expect("read");
        assert_eq!(count, 1);
        std::fs::write(&path, "nothing\n{\"t\":2,").expect("written");
        let error = read(dir.path(), |_| ()).expect_err("no entry");
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
