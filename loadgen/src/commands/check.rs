//! `hawser-loadgen check DIR`: judges a history, offline.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use ahash::AHashMap;
use clap::Parser;
use serde::Serialize;

use crate::history::{self, Entry, Id, Run};
use crate::judge::{Judge, Verdict};

/// Entries about one offending message that are shown at most.
const CONTEXT_MAX: usize = 24;

/// Judges a history that `hawser-loadgen --history DIR` wrote: nothing acknowledged may be lost to a device or to history,
/// nothing shown twice, nothing out of order, no two messages with one place. Prints counts and the first offending
/// operations of each kind with everything that any client did or saw of the message.
///
/// Exit codes: 0 clean, 1 when something was found or the history was cut, 3 when it cannot be read.
#[derive(Debug, Clone, Parser)]
pub struct CheckArgs {
    /// The folder.
    pub dir: PathBuf,
    /// Writes the verdict as JSON, `-` for standard output instead of the text.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Told<'a> {
    clean: bool,
    command: &'a str,
    seed: u64,
    verdict: &'a Verdict,
    /// By client_msg_id of the first offences.
    context: BTreeMap<String, &'a [Entry]>,
}

/// Reads, judges and prints. Says whether the history is clean.
///
/// # Errors
/// The history cannot be read, or the verdict not written.
pub fn run(args: &CheckArgs) -> anyhow::Result<bool> {
    let run = history::run(&args.dir)?;
    let mut judge = Judge::new(&run);
    history::read(&args.dir, |entry| judge.entry(&entry))?;
    let verdict = judge.finish();
    let mut context: AHashMap<Id, Vec<Entry>> = AHashMap::new();
    context.extend(
        verdict
            .first
            .iter()
            .filter_map(|o| Some((o.id?, Vec::new()))),
    );
    if !context.is_empty() {
        history::read(&args.dir, |entry| {
            let about = entry.id().and_then(|id| context.get_mut(&id));
            if let Some(list) = about.filter(|list| list.len() < CONTEXT_MAX) {
                list.push(entry);
            }
        })?;
    }
    context
        .values_mut()
        .for_each(|list| list.sort_by_key(|entry| entry.t));
    let json = || -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(&Told {
            clean: verdict.clean(),
            command: &run.command,
            seed: run.seed,
            verdict: &verdict,
            context: context
                .iter()
                .map(|(id, list)| (id.to_string(), &list[..]))
                .collect(),
        })?)
    };
    match &args.json {
        Some(path) if path.as_os_str() == "-" => println!("{}", json()?),
        Some(path) => {
            print!("{}", text(&run, &verdict, &context));
            std::fs::write(path, json()? + "\n")?;
        }
        None => print!("{}", text(&run, &verdict, &context)),
    }
    Ok(verdict.clean())
}

fn text(run: &Run, verdict: &Verdict, context: &AHashMap<Id, Vec<Entry>>) -> String {
    let mut out = String::new();
    let v = verdict;
    let _ = writeln!(out, "run        {} (seed {})", run.command, run.seed);
    let _ = writeln!(
        out,
        "sends      {}: {} acknowledged, {} refused, {} of unknown outcome",
        v.sent, v.acknowledged, v.refused, v.unknown
    );
    let _ = writeln!(
        out,
        "deliveries {} first, {} again and filtered; {} sessions begun, {} resumed, {} devices not judged",
        v.delivered, v.redelivered, v.welcomes, v.recovered, v.unjudged_devices
    );
    let _ = writeln!(
        out,
        "history    {} of {} chats read back, {} messages",
        v.swept,
        run.chats.len(),
        v.rows
    );
    for (kind, count) in &v.counts {
        let _ = writeln!(out, "FOUND      {count} × {kind:?}");
    }
    for offence in &v.first {
        let chat = offence.chat.and_then(|c| run.chats.get(c as usize));
        let _ = writeln!(
            out,
            "\n{:?}, user {}{}, chat {}, {}: {}",
            offence.kind,
            run.prefix,
            offence.user,
            chat.map_or("–", |chat| &chat.chat),
            offence
                .id
                .map_or_else(|| "no message".to_owned(), |id| id.to_string()),
            offence.words
        );
        for entry in offence
            .id
            .and_then(|id| context.get(&id))
            .into_iter()
            .flatten()
        {
            let line = serde_json::to_string(entry).unwrap_or_default();
            let _ = writeln!(out, "  {line}");
        }
    }
    let said = match (v.clean(), v.cut) {
        (true, _) => "nothing lost, nothing twice, nothing out of order",
        (_, true) => "the history was cut (--history-mib): it proves nothing",
        _ => "BROKEN",
    };
    let _ = writeln!(out, "verdict    {said}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Chat, Op, Place, Writer};

    #[test]
    fn an_offence_is_told_with_all_that_was_seen_of_the_message() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let run_page = Run {
            command: "x".to_owned(),
            began_ms: 0,
            seed: 9,
            prefix: "u".to_owned(),
            chats: vec![Chat {
                chat: "dm:u0:u1".to_owned(),
                members: vec![0, 1],
            }],
        };
        history::begin(dir.path(), &run_page).expect("begun");
        let mut writer = Writer::create(dir.path(), 0, 1 << 20).expect("a file");
        let id = Id([7; 16]);
        let place = Place {
            c: 0,
            id,
            seq: 5,
            prev: 0,
            ord: 1,
        };
        let ops = [
            (1, Op::Welcome { recovered: false }),
            (
                0,
                Op::Send {
                    c: 0,
                    id,
                    n: 1,
                    again: false,
                },
            ),
            (
                0,
                Op::Ok {
                    off: 1,
                    place,
                    mid: "aa".to_owned(),
                },
            ),
        ];
        for (u, op) in ops {
            writer.add(&Entry { t: 1, u, op });
        }
        assert!(writer.finish());
        let json = dir.path().join("verdict.json");
        let args = CheckArgs {
            dir: dir.path().to_owned(),
            json: Some(json.clone()),
        };
        assert!(!run(&args).expect("judged"), "the delivery is lost");
        let told: serde_json::Value =
            serde_json::from_slice(&std::fs::read(json).expect("written")).expect("JSON");
        assert_eq!(told["verdict"]["counts"]["lost_delivery"], 1);
        let context = &told["context"][id.to_string()];
        assert_eq!(context.as_array().map(Vec::len), Some(2), "{told}");
    }
}
