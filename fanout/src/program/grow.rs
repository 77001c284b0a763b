//! `hawser-fanout grow chat-messages` and `grow delivery`: more partitions while everything runs.

use super::config::Config;
use clap::ValueEnum;
use std::process::ExitCode;

/// What can grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Growing {
    /// The topic `chat-messages`: more ingest in parallel; Sends are refused with a hint for some seconds.
    ChatMessages,
    /// The topic `delivery`, and those that go with it: more edge nodes and cores; messages are delivered some seconds later.
    Delivery,
}

/// Grows it, saying every step; SIGINT and SIGTERM stop it where it is, and running it again goes on.
#[cfg(feature = "engines")]
pub(super) fn run(config: &Config, what: Growing, partitions: u32) -> ExitCode {
    use crate::engines::kafka_config;
    use hawser_engines::kafka::{GrowError, grow};
    use hawser_engines::log::Topic;
    use std::ops::ControlFlow;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    let topic = match what {
        Growing::ChatMessages => Topic::ChatMessages,
        Growing::Delivery => Topic::Delivery,
    };
    if config.log.kind != "kafka" {
        return wrong("`log.kind` is not `kafka`: only a log on Kafka grows");
    }
    let mut kafka = match kafka_config(&config.log) {
        Ok(kafka) => kafka,
        Err(error) => return wrong(&error.to_string()),
    };
    kafka.open_timeout = Duration::from_secs(u64::from(config.engines.wait_for_engines_s));
    let stop = Arc::new(AtomicBool::new(false));
    if let Err(error) = stop_on_signals(&stop) {
        return wrong(&format!("no signal can be waited for: {error}"));
    }
    let began = Instant::now();
    let outcome = grow(kafka, topic, partitions, &mut |step| {
        println!("{:7.1} s  {step}", began.elapsed().as_secs_f64());
        if stop.load(Ordering::Acquire) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hawser-fanout: {error}");
            match error {
                GrowError::Log(_) => ExitCode::from(6),
                GrowError::Partitions { .. }
                | GrowError::NotMore { .. }
                | GrowError::Topic { .. } => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Says what a build without engines cannot do.
#[cfg(not(feature = "engines"))]
pub(super) fn run(_config: &Config, _what: Growing, _partitions: u32) -> ExitCode {
    wrong("this build has no Kafka: build with --features engines")
}

fn wrong(reason: &str) -> ExitCode {
    eprintln!("hawser-fanout: {reason}");
    ExitCode::from(2)
}

/// Sets it with the first SIGINT or SIGTERM.
#[cfg(feature = "engines")]
fn stop_on_signals(stop: &std::sync::Arc<std::sync::atomic::AtomicBool>) -> std::io::Result<()> {
    use std::sync::atomic::Ordering;
    use tokio::signal::unix::{SignalKind, signal};

    let stop = std::sync::Arc::clone(stop);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _in = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    std::thread::Builder::new()
        .name("hawser-signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            eprintln!("hawser-fanout: stopping at the next step; run it again to go on");
            stop.store(true, Ordering::Release);
        })?;
    Ok(())
}
