//! The files beside the database: FORMAT (who wrote it, how) and LOCK (one process at a time).

use super::error::OpenError;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Format of everything in the folder that this version reads and writes.
pub(super) const FORMAT: u64 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct FormatFile {
    format: u64,
    written_by: String,
    partitions: u32,
}

/// Holds the folder for this process until dropped.
pub(super) struct DirLock {
    _file: File,
}

pub(super) fn io_error(dir: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> OpenError {
    move |source| OpenError::Io {
        dir: dir.to_owned(),
        what,
        source,
    }
}

/// Takes the folder, or names who has it.
pub(super) fn lock_dir(dir: &Path) -> Result<DirLock, OpenError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join("LOCK"))
        .map_err(io_error(dir, "cannot open LOCK"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            return Err(OpenError::Locked {
                dir: dir.to_owned(),
                pid: if known {
                    pid.trim().to_owned()
                } else {
                    "unknown".to_owned()
                },
            });
        }
        Err(TryLockError::Error(error)) => return Err(io_error(dir, "cannot lock LOCK")(error)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(io_error(dir, "cannot write LOCK"))?;
    Ok(DirLock { _file: file })
}

/// Checks FORMAT, or writes it in a new folder. Returns whether a database was there.
pub(super) fn check_format(dir: &Path, partitions: u32) -> Result<bool, OpenError> {
    let path = dir.join("FORMAT");
    let existing = dir.join("db").join("version").exists();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if existing {
                return Err(no_format(dir, "no such file"));
            }
            write_format(dir, &path, partitions)?;
            return Ok(false);
        }
        Err(error) => return Err(io_error(dir, "cannot read FORMAT")(error)),
    };
    let found: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| no_format(dir, &e.to_string()))?;
    // Another format may have other fields: look at the number before anything else.
    let format = found.get("format").and_then(serde_json::Value::as_u64);
    match format {
        Some(FORMAT) => {}
        Some(format) => {
            let written_by = found.get("written_by").and_then(serde_json::Value::as_str);
            return Err(OpenError::UnknownFormat {
                dir: dir.to_owned(),
                found: format,
                written_by: written_by.unwrap_or("an unknown version").to_owned(),
                known: FORMAT,
            });
        }
        None => return Err(no_format(dir, "no format number in it")),
    }
    let file: FormatFile =
        serde_json::from_value(found).map_err(|e| no_format(dir, &e.to_string()))?;
    if file.partitions != partitions {
        return Err(OpenError::Partitions {
            dir: dir.to_owned(),
            stored: file.partitions,
            wanted: partitions,
        });
    }
    Ok(existing)
}

fn no_format(dir: &Path, reason: &str) -> OpenError {
    OpenError::NoFormat {
        dir: dir.to_owned(),
        reason: reason.to_owned(),
    }
}

fn write_format(dir: &Path, path: &Path, partitions: u32) -> Result<(), OpenError> {
    let file = FormatFile {
        format: FORMAT,
        written_by: concat!("hawser ", env!("CARGO_PKG_VERSION")).to_owned(),
        partitions,
    };
    let text = serde_json::to_string(&file).map_err(|e| no_format(dir, &e.to_string()))?;
    // Written whole or not at all: a torn FORMAT would lock its owner out.
    let new = dir.join("FORMAT.new");
    File::create(&new)
        .and_then(|mut f| writeln!(f, "{text}").and_then(|()| f.sync_all()))
        .and_then(|()| std::fs::rename(&new, path))
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(io_error(dir, "cannot write FORMAT"))
}
