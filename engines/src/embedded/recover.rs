//! Opens the database: finds what a crash or a bad disk left, cuts back to the last good record,
//! and raises generations when something that could have been acknowledged is gone.

use super::INGEST_GROUP;
use super::batch::Parts;
use super::config::{Durability, EmbeddedConfig};
use super::core::PositionKey;
use super::error::OpenError;
use super::format::{DirLock, check_format, io_error, lock_dir};
use super::journal::{self, Scan};
use super::meta::{
    BATCH_KEY, BatchRow, decode_batch, decode_part, decode_u64, encode_batch, encode_part,
    encode_u64, generation_key, opens_key, part_key, position_key, read_positions,
};
use super::note::{Note, Noted, totals};
use super::report::{RecoveryReport, Truncated};
use super::tables::{DURABLE, Table, Tables, Txn, topic_id};
use super::verify::verify;
use crate::log::Topic;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// What the commit thread begins with.
pub(super) struct Recovered {
    pub(super) tables: Arc<Tables>,
    pub(super) state: State,
    pub(super) note: Note,
    pub(super) lock: DirLock,
}

/// The engine's own rows, checked and repaired.
pub(super) struct State {
    pub(super) parts: Parts,
    pub(super) generations: [u16; Topic::ALL.len()],
    pub(super) positions: Vec<(PositionKey, u64)>,
    pub(super) batch_number: u64,
    pub(super) report: RecoveryReport,
}

/// Takes the folder and opens the database in it.
pub(super) fn open(config: &EmbeddedConfig) -> Result<Recovered, OpenError> {
    config.check().map_err(OpenError::Config)?;
    let dir = &config.dir;
    std::fs::create_dir_all(dir).map_err(io_error(dir, "cannot make the folder"))?;
    let lock = lock_dir(dir)?;
    check_format(dir, config.partitions)?;
    let mut note =
        Note::open(&dir.join("ACKED")).map_err(io_error(dir, "cannot open the note ACKED"))?;
    let (tables, state) = open_database(config, &mut note)?;
    Ok(Recovered {
        tables,
        state,
        note,
        lock,
    })
}

/// Opens the database in a folder that this process holds.
pub(super) fn open_database(
    config: &EmbeddedConfig,
    note: &mut Note,
) -> Result<(Arc<Tables>, State), OpenError> {
    let dir = &config.dir;
    let db = dir.join("db");
    let existed = db.join("version").exists();
    let noted = note.read();
    let mut report = RecoveryReport {
        existed,
        clean: noted.is_some_and(|n| n.clean),
        ..RecoveryReport::default()
    };
    let scan = if existed {
        cut_journal(dir, &db, &mut report)?
    } else {
        Scan::default()
    };
    let tables = Arc::new(open_tables(config, &db)?);
    let damaged = |error: fjall::Error| OpenError::Damaged {
        dir: dir.clone(),
        reason: error.to_string(),
    };
    let mut state = load(&tables, config, report).map_err(damaged)?;
    if existed {
        judge_losses(config, note, noted, &scan, &mut state);
    }
    state.batch_number += 1;
    save(&tables, &state).map_err(damaged)?;
    note.opened(state.batch_number, &state.parts)
        .map_err(io_error(dir, "cannot write the note ACKED"))?;
    Ok((tables, state))
}

fn cut_journal(dir: &Path, db: &Path, report: &mut RecoveryReport) -> Result<Scan, OpenError> {
    let scan = journal::scan(db).map_err(io_error(dir, "cannot read the journal"))?;
    if let Some(damage) = &scan.damage {
        let aside = dir.join("damaged").join(next_name(&dir.join("damaged")));
        let cut = damage.cut(&aside);
        report.journal_bytes_cut = cut.map_err(io_error(dir, "cannot cut the journal"))?;
        report.journal_fault = Some(damage.what);
        report.set_aside = Some(aside);
    }
    Ok(scan)
}

/// The first free number in the folder of what was set aside.
fn next_name(aside: &Path) -> String {
    let taken = |n: &u32| aside.join(n.to_string()).exists();
    (1_u32..).find(|n| !taken(n)).unwrap_or(0).to_string()
}

/// The storage engine can panic on metadata that it cannot parse: that is damage too.
fn open_tables(config: &EmbeddedConfig, db: &Path) -> Result<Tables, OpenError> {
    let damaged = |reason: String| OpenError::Damaged {
        dir: config.dir.clone(),
        reason,
    };
    match catch_unwind(AssertUnwindSafe(|| Tables::open(db, config))) {
        Ok(Ok(tables)) => Ok(tables),
        Ok(Err(fjall::Error::Locked)) => Err(OpenError::Locked {
            dir: config.dir.clone(),
            pid: "unknown".to_owned(),
        }),
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(_) => Err(damaged("its metadata cannot be parsed".to_owned())),
    }
}

/// Reads the engine's own rows and verifies the newest records.
fn load(
    tables: &Tables,
    config: &EmbeddedConfig,
    mut report: RecoveryReport,
) -> fjall::Result<State> {
    let number = |key: &[u8]| -> fjall::Result<Option<u64>> {
        Ok(tables.get(Table::Meta, key)?.and_then(|v| decode_u64(&v)))
    };
    let mut parts = Parts::new(config.partitions);
    let mut generations = [1; Topic::ALL.len()];
    let share = config.verify_bytes_max / (u64::from(config.partitions) * DURABLE.len() as u64);
    for topic in DURABLE {
        let Some(id) = topic_id(topic) else { continue };
        let generation = number(&generation_key(id))?.unwrap_or(1);
        generations[topic as usize] = u16::try_from(generation).unwrap_or(u16::MAX);
        for partition in 0..config.partitions {
            let row = tables.get(Table::Meta, &part_key(id, partition))?;
            let row = row.and_then(|v| decode_part(&v)).unwrap_or_default();
            let verified = verify(tables, id, partition, row, share)?;
            if let Some((from, to)) = verified.cut {
                report.truncated.push(Truncated {
                    topic,
                    partition,
                    from,
                    to,
                });
            }
            parts.set(topic, partition, verified.row);
        }
    }
    // Ephemeral topics begin at 0 with each opening, so each opening is a generation.
    let opens = number(&opens_key())?.unwrap_or(0) + 1;
    for topic in [Topic::ChatTyping, Topic::ChatPresence, Topic::Bodies] {
        generations[topic as usize] = u16::try_from(opens % 65_535).unwrap_or(0).max(1);
    }
    let batch = tables.get(Table::Meta, BATCH_KEY)?;
    Ok(State {
        batch_number: batch.and_then(|v| decode_batch(&v)).map_or(0, |b| b.number),
        positions: read_positions(tables)?,
        parts,
        generations,
        report,
    })
}

/// Decides which topics lost something that could have been acknowledged: their generation rises,
/// and ingest goes back to where the good part of the journal ends (its steps are idempotent).
fn judge_losses(
    config: &EmbeddedConfig,
    note: &Note,
    noted: Option<Noted>,
    scan: &Scan,
    state: &mut State,
) {
    let now = totals(&state.parts);
    let cut = state.report.journal_fault.is_some();
    let mut lost: Vec<Topic> = state.report.truncated.iter().map(|t| t.topic).collect();
    match noted {
        // Exact: the note was written by this boot, or by an orderly and synced close.
        Some(noted) if noted.clean || note.same_boot(&noted) => {
            let gone = noted.batch.saturating_sub(state.batch_number);
            state.report.batches_lost = Some(gone);
            let fewer = DURABLE.into_iter().zip(noted.totals.into_iter().zip(now));
            lost.extend(
                fewer
                    .filter(|(_, (then, now))| now < then)
                    .map(|(topic, _)| topic),
            );
            if gone > 0 {
                // Rows of the store and the directory went with those batches.
                lost.push(Topic::ChatMessages);
            }
        }
        // The note is older than the truth: whatever was cut may have been acknowledged, and
        // without fsync a reboot may have lost it without a trace.
        Some(noted) => {
            let behind = noted.batch > state.batch_number;
            if cut || behind || config.durability == Durability::Os {
                lost.extend(DURABLE);
            }
        }
        // No note beside a database: restored from somewhere.
        None => lost.extend(DURABLE),
    }
    lost.sort_unstable();
    lost.dedup();
    for topic in &lost {
        let generation = &mut state.generations[*topic as usize];
        *generation = generation.saturating_add(1);
        state.report.raised.push((*topic, *generation));
    }
    let back = if cut && !lost.is_empty() {
        rewind(scan, state, config)
    } else {
        Vec::new()
    };
    for (key, next) in &mut state.positions {
        let ingest = key.topic == Topic::ChatMessages && &*key.group == INGEST_GROUP;
        if let Some(to) = back.get(key.partition as usize).filter(|_| ingest) {
            *next = (*next).min(*to);
        }
        if key.partition < config.partitions {
            *next = (*next).min(state.parts.get(key.topic, key.partition).next);
        }
    }
}

/// Where ingest goes back to, per partition: tables reach the disk one by one, so the log may hold
/// records whose rows were in the part that was cut.
fn rewind(scan: &Scan, state: &State, config: &EmbeddedConfig) -> Vec<u64> {
    let low = |p| state.parts.get(Topic::ChatMessages, p).low;
    let known = scan.last.as_ref();
    (0..config.partitions)
        .map(|p| {
            known
                .and_then(|b| b.chat_next.get(p as usize).copied())
                .unwrap_or_else(|| low(p))
        })
        .collect()
}

/// Writes the repaired rows, durably, before anything is told to anyone.
fn save(tables: &Tables, state: &State) -> fjall::Result<()> {
    let mut txn = Txn::new(tables);
    for topic in DURABLE {
        let Some(id) = topic_id(topic) else { continue };
        let generation = u64::from(state.generations[topic as usize]);
        txn.put(Table::Meta, generation_key(id), encode_u64(generation));
        for (partition, row) in (0..).zip(state.parts.topic(topic)) {
            txn.put(Table::Meta, part_key(id, partition), encode_part(*row));
        }
    }
    for (key, next) in &state.positions {
        if let Some(id) = topic_id(key.topic) {
            let row = position_key(id, key.partition, &key.group);
            txn.put(Table::Meta, row, encode_u64(*next));
        }
    }
    let opens = tables
        .get(Table::Meta, &opens_key())?
        .and_then(|v| decode_u64(&v));
    txn.put(Table::Meta, opens_key(), encode_u64(opens.unwrap_or(0) + 1));
    let chat_next = state
        .parts
        .topic(Topic::ChatMessages)
        .iter()
        .map(|r| r.next);
    let row = BatchRow {
        number: state.batch_number,
        resync: true,
        chat_next: chat_next.collect(),
    };
    txn.put(Table::Meta, BATCH_KEY.to_vec(), encode_batch(&row));
    txn.commit_synced()
}
