//! `drain`: begin it, then watch it.

use super::args::DrainArgs;
use super::calls::{CallError, Caller};
use super::progress::Progress;
use crate::admin::draining::{DrainView, DrainWish};
use crate::cli::RunArgs;
use crate::owners::peers::AskError;
use crate::run::Failure;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Beyond `node.drain_ms`: for closes to go out, partitions to be taken, the process to end.
const BEYOND: Duration = Duration::from_secs(15);

/// How it ended.
#[derive(Debug, Serialize)]
struct Outcome {
    #[serde(flatten)]
    last: DrainView,
    /// The process has ended.
    ended: bool,
    took_ms: u64,
}

/// Drains a node.
pub(super) async fn drain(run: &RunArgs, args: &DrainArgs) -> Result<(), Failure> {
    let link = super::link(run, &args.ask)?;
    let failed = |e: CallError| Failure::Running(format!("{link}: {e}"));
    let caller = Caller::new(args.token.token.as_deref());
    let began = Instant::now();
    let wish = DrainWish { exit: args.exit };
    let mut last: DrainView = caller.post(&link, "/drain", &wish).await.map_err(failed)?;
    let patience = match args.timeout_s {
        Some(seconds) => Duration::from_secs(seconds),
        None => Duration::from_millis(last.drain_ms) + BEYOND,
    };
    let mut progress = Progress::new("draining");
    let mut ended = false;
    // Until it is done or, where it is to end, gone.
    while (args.exit || !last.done) && !ended && began.elapsed() < patience {
        progress.left(last.sessions + last.partitions, &words(&last));
        tokio::time::sleep(LOOK).await;
        match caller.get::<DrainView>(&link, "/drain").await {
            Ok(view) => last = view,
            Err(CallError::Ask(AskError::Io(_) | AskError::Http(_))) => ended = true,
            Err(error) => return Err(failed(error)),
        }
    }
    progress.left(last.sessions + last.partitions, &words(&last));
    drop(progress);
    let done = if args.exit { ended } else { last.done };
    if ended && !args.exit {
        let words = format!("{link} went away while it drained: {}", words(&last));
        return Err(Failure::Running(words));
    }
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let outcome = Outcome {
        last,
        ended,
        took_ms,
    };
    super::print(args.ask.json, &outcome, outcome_text)?;
    match done {
        true => Ok(()),
        false => {
            let words = words(&outcome.last);
            let seconds = patience.as_secs();
            let words = format!("not done within {seconds} s, it goes on: {words}");
            Err(Failure::Running(words))
        }
    }
}

fn words(view: &DrainView) -> String {
    let DrainView {
        node,
        sessions,
        partitions,
        ..
    } = view;
    format!("{node}: {sessions} sessions and {partitions} partitions left")
}

fn outcome_text(outcome: &Outcome) -> String {
    let DrainView {
        node,
        partitions,
        others,
        done,
        ..
    } = &outcome.last;
    let seconds = outcome.took_ms / 1_000;
    let mut text = match (outcome.ended, done) {
        (true, _) => format!("{node} has ended after {seconds} s\n"),
        (false, true) => {
            format!("{node} is drained after {seconds} s; start it anew to bring it back\n")
        }
        (false, false) => String::new(),
    };
    if *partitions > 0 && *others == 0 && *done {
        text += &format!("no other node takes its {partitions} partitions\n");
    }
    text
}
