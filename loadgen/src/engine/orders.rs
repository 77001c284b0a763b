//! What the threads of a run are to do, as it changes from phase to phase, and what they record meanwhile.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Counters, Engine};
use crate::args::Args;
use crate::random::Random;
use crate::report::Latency;
use crate::session::Stage;

/// Sessions that are all cut off at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storm {
    /// Users below this one are not cut; they alone send.
    pub bystanders: u32,
    /// Those that are cut come back without a past.
    pub fresh: bool,
}

/// What is sent while there is load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Sessions to open per second, over all threads of this process.
    pub ramp: f64,
    /// Messages per second over all sessions.
    pub rate: f64,
    /// Bodies: up to which share of the messages each is taken, and its bytes. The last share is 1.
    pub bodies: Vec<(f64, u32)>,
    /// Share of messages that go to groups, 0 to 1.
    pub group_share: f64,
    /// Share of deliveries answered by a read receipt, 0 to 1.
    pub receipt_share: f64,
    /// Typing signals per message, 0 to 1.
    pub typing_share: f64,
}

impl Load {
    /// As the command line says.
    #[must_use]
    pub fn of(args: &Args) -> Self {
        Self {
            ramp: f64::from(args.ramp),
            rate: args.rate,
            bodies: vec![(1.0, u32::try_from(args.body).unwrap_or(u32::MAX))],
            group_share: args.group_share,
            receipt_share: args.receipt_share,
            typing_share: args.typing_share,
        }
    }

    /// The size of the next body, bytes.
    pub(super) fn body(&self, random: &mut Random) -> u32 {
        match self.bodies.as_slice() {
            [] => 0,
            [one] => one.1,
            several => {
                let at = random.unit();
                let found = several.iter().find(|(share, _)| at <= *share);
                found.or(several.last()).map_or(0, |body| body.1)
            }
        }
    }
}

/// What the threads are to do, beside the phase.
#[derive(Debug, Clone)]
pub struct Orders {
    /// What is sent.
    pub load: Arc<Load>,
    /// What is cut, if anything.
    pub storm: Option<Storm>,
    /// When it was cut, on the clock of [`super::Shared::now_ns`]; `u64::MAX`: not yet.
    pub cut_ns: u64,
    /// Of the pairs from this user on, the second does not read; `u32::MAX`: everybody reads.
    pub slow_from: u32,
    /// Windows asked for so far; 0: none are recorded.
    pub windows: u32,
}

impl Orders {
    pub(super) fn new(load: Arc<Load>) -> Self {
        Self {
            load,
            storm: None,
            cut_ns: u64::MAX,
            slow_from: u32::MAX,
            windows: 0,
        }
    }

    /// Whether a user is cut off by the storm, when there is one.
    #[must_use]
    pub fn is_cut(&self, user: u32) -> bool {
        self.storm.is_some_and(|storm| user >= storm.bystanders)
    }

    /// Whether a user does not read what comes.
    #[must_use]
    pub fn is_slow(&self, user: u32) -> bool {
        is_second(user) && user >= self.slow_from
    }
}

fn is_second(user: u32) -> bool {
    user % 2 == 1
}

/// What a thread recorded since the window before.
#[derive(Debug, Clone, Default)]
pub struct Window {
    /// TCP connect to Welcome.
    pub connect: Latency,
    /// Due to Queued.
    pub queued: Latency,
    /// Due to SendResult.
    pub send_result: Latency,
    /// Due to Deliver, without what sessions that did not read had waited for.
    pub deliver: Latency,
    /// Deliveries to those.
    pub held_back: u64,
    /// When those were welcomed again that a storm had cut, nanoseconds since it began.
    pub back_ns: Vec<u64>,
    /// Of these, resumed.
    pub resumed: u64,
    /// Were told to come later.
    pub told: u64,
    /// Refusals and `Error` frames.
    pub errors: u64,
    /// Messages that the schedule wanted and that no session could take.
    pub shed: u64,
}

impl Window {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.connect.add(&other.connect);
        self.queued.add(&other.queued);
        self.send_result.add(&other.send_result);
        self.deliver.add(&other.deliver);
        self.back_ns.extend(&other.back_ns);
        for (sum, more) in [
            (&mut self.held_back, other.held_back),
            (&mut self.resumed, other.resumed),
            (&mut self.told, other.told),
            (&mut self.errors, other.errors),
            (&mut self.shed, other.shed),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

impl Engine {
    /// Does what has been ordered since the last look.
    pub(super) fn obey(&mut self) {
        let changes = self.shared.changes();
        if changes == self.obeyed {
            return;
        }
        self.obeyed = changes;
        let orders = self.shared.orders();
        let before = std::mem::replace(&mut self.orders, orders);
        let sessions = self.shared.sessions();
        let speaks = |user: u32| user < sessions && !self.orders.is_cut(user);
        let speakers = self
            .sessions
            .partition_point(|session| speaks(session.user));
        self.speakers = speakers as u64;
        if self.orders.cut_ns != before.cut_ns && self.orders.cut_ns != u64::MAX {
            self.cut();
        }
        if self.orders.slow_from != before.slow_from {
            self.read_again(&before);
        }
        if self.orders.windows != before.windows {
            // The first is empty, so that whoever asks has an answer.
            let window = self.window.replace(Box::default()).unwrap_or_default();
            self.shared.hand_over(self.orders.windows, *window);
        }
    }

    /// Those read again that did not and now are to.
    fn read_again(&mut self, before: &Orders) {
        (self.was_slow_from, self.read_again_ns) = (before.slow_from, self.shared.now_ns());
        let now_ms = self.now_ms();
        for session in &mut self.sessions {
            let is_read = before.is_slow(session.user) && !self.orders.is_slow(session.user);
            if !is_read || session.stage != Stage::Live {
                continue;
            }
            // The answer is among what waits to be read.
            session.pinged_ms = session.pinged_ms.map(|_| now_ms);
            if let Some(key) = session.key {
                // Busy or nothing there: the wait for bytes goes on all the same.
                let _ = self.ring.recv(key);
            }
        }
    }

    /// Whether a session leaves in the socket what comes.
    pub(super) fn is_slow(&self, at: u32) -> bool {
        self.orders.slow_from != u32::MAX
            && self.sessions.get(at as usize).is_some_and(|session| {
                session.stage == Stage::Live && self.orders.is_slow(session.user)
            })
    }

    /// Whether a message that was due then had to wait for a receiver who did not read.
    pub(super) fn waited(&self, user: u32, due_ns: u64) -> bool {
        self.orders.is_slow(user)
            || is_second(user) && user >= self.was_slow_from && due_ns < self.read_again_ns
    }

    /// Records something in the window, when one is asked for.
    pub(super) fn record(&mut self, into: impl FnOnce(&mut Window)) {
        if let Some(window) = &mut self.window {
            into(window);
        }
    }

    /// Users who may send now, over all threads.
    pub(super) fn speakers_in_all(&self) -> u32 {
        let sessions = self.shared.sessions().min(self.shared.plan.users());
        self.orders
            .storm
            .map_or(sessions, |storm| storm.bystanders.min(sessions))
    }

    /// A message that the schedule wants and no session can take.
    pub(super) fn shed(&mut self) {
        self.found.shed += 1;
        Counters::add(&self.shared.counters.shed, 1);
        self.record(|window| window.shed += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_taken_by_their_shares() {
        let load = Load {
            ramp: 1.0,
            rate: 1.0,
            bodies: vec![(0.7, 200), (0.9, 1_000), (1.0, 5_000)],
            group_share: 0.0,
            receipt_share: 0.0,
            typing_share: 0.0,
        };
        let mut random = Random::new(7);
        let mut counts = [0_u32; 3];
        for _ in 0..10_000 {
            let at = match load.body(&mut random) {
                200 => 0,
                1_000 => 1,
                _ => 2,
            };
            counts[at] += 1;
        }
        for (count, wanted) in counts.into_iter().zip([7_000, 2_000, 1_000]) {
            assert!(count.abs_diff(wanted) < 200, "{counts:?}");
        }
    }

    #[test]
    fn the_second_of_the_last_pairs_is_slow_and_the_first_is_not() {
        let args = <Args as clap::Parser>::parse_from(["x", "--key", "k"]);
        let mut orders = Orders::new(Arc::new(Load::of(&args)));
        assert!(!orders.is_slow(7));
        orders.slow_from = 4;
        let slow: Vec<u32> = (0..10).filter(|user| orders.is_slow(*user)).collect();
        assert_eq!(slow, [5, 7, 9]);
    }
}
