//! The timer wheel, among as many timers as a core has sessions.

use crate::case::{Case, Failed, count};
use hawser_ring::TimerWheel;

const ROUNDS: u32 = 1_024;
/// Timers that are set all the time.
const OTHERS: u32 = 100_000;
const TICK_MS: u64 = 20;
/// As far ahead as a session's heartbeat is.
const AHEAD_MS: u64 = 45_000;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("timers/insert", ROUNDS, |rounds| {
            let mut wheel = busy();
            for n in 0..rounds {
                count(|| wheel.insert(deadline(n), n));
            }
            Ok(())
        }),
        Case::new("timers/cancel", ROUNDS, |rounds| {
            let mut wheel = busy();
            let handles: Vec<_> = (0..rounds).map(|n| wheel.insert(deadline(n), n)).collect();
            for handle in handles {
                let mut had = None;
                count(|| had = wheel.cancel(handle));
                had.ok_or("it was not set")?;
            }
            Ok(())
        }),
        expire(),
    ]
}

fn deadline(n: u32) -> u64 {
    AHEAD_MS + u64::from(n) * 7
}

fn busy() -> TimerWheel<u32> {
    let mut wheel = TimerWheel::new(0, TICK_MS);
    for n in 0..OTHERS {
        wheel.insert(10 * AHEAD_MS + u64::from(n), n);
    }
    wheel
}

/// One timer of many that are spread over the time of a heartbeat: what its way through the wheel and its end cost, and its
/// share of the ticks between.
fn expire() -> Case {
    Case::new("timers/expire", OTHERS, |timers| {
        let mut wheel = TimerWheel::new(0, TICK_MS);
        for n in 0..timers {
            wheel.insert(u64::from(n) * AHEAD_MS / u64::from(timers), n);
        }
        let mut ended = 0;
        for now_ms in (0..=AHEAD_MS + TICK_MS).step_by(20) {
            count(|| while wheel.advance(now_ms, 512, |_| ended += 1) {});
        }
        match ended == timers {
            true => Ok(()),
            false => Err(Failed::from("not all have ended")),
        }
    })
}
