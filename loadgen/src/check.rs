//! The correctness checker: nothing acknowledged is lost, nothing is shown twice, order holds.
//!
//! Messages of one sender in one conversation are numbered from 1, and the log orders a conversation, so
//! every receiver must see the numbers grow by one. A gap is remembered until it is filled (reordered),
//! explained (the server refused that number) or counted as lost at the end.

use ahash::{AHashMap, AHashSet};
use serde::{Deserialize, Serialize};

/// Gaps remembered at most per process; beyond, they are counted and not reconciled.
const MISSING_MAX: usize = 1_000_000;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Acknowledged sends.
    pub acknowledged: u64,
    /// Sends refused by the server.
    pub refused: u64,
    /// Sends without a final answer.
    pub unanswered: u64,
    /// Deliveries checked.
    pub delivered: u64,
    /// Acknowledged, but a receiver never got it.
    pub lost: u64,
    /// Got by the same receiver a second time and not filtered by (chat, seq).
    pub duplicated: u64,
    /// Got later than a successor.
    pub reordered: u64,
    /// Got with a seq not above the one before it in the chat.
    pub seq_regressed: u64,
    /// Redelivered on the wire and filtered by (chat, seq), which is allowed.
    pub refiltered: u64,
}

impl Findings {
    /// Whether every promise was kept.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.reordered == 0 && self.seq_regressed == 0
    }

    /// Adds another process's or thread's findings.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.refused, other.refused),
            (&mut self.unanswered, other.unanswered),
            (&mut self.delivered, other.delivered),
            (&mut self.lost, other.lost),
            (&mut self.duplicated, other.duplicated),
            (&mut self.reordered, other.reordered),
            (&mut self.seq_regressed, other.seq_regressed),
            (&mut self.refiltered, other.refiltered),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// One (sender, conversation).
type Lane = (u32, u32);

/// Checks all receivers of one thread.
#[derive(Debug, Default)]
pub struct Checker {
    findings: Findings,
    /// (receiver, lane) → largest number seen.
    seen: AHashMap<(u32, Lane), u32>,
    /// (receiver, lane, number) skipped so far.
    missing: AHashSet<(u32, Lane, u32)>,
    missing_overflow: u64,
    /// Final answers by this thread's senders: lane → numbers acknowledged.
    answered: AHashMap<Lane, Numbers>,
}

/// Acknowledged and refused numbers of one lane.
#[derive(Debug, Default, Clone)]
pub struct Numbers {
    /// Largest number sent.
    pub sent: u32,
    /// Acknowledged so far.
    pub acknowledged: u32,
    /// Refused for good.
    pub refused: Vec<u32>,
    /// Acknowledged numbers above `acknowledged_all`, kept sparse.
    above: AHashSet<u32>,
    /// All numbers up to this one are answered.
    answered_to: u32,
}

impl Numbers {
    fn answer(&mut self, number: u32) {
        self.above.insert(number);
        while self.above.remove(&(self.answered_to + 1)) {
            self.answered_to += 1;
        }
    }

    /// Whether this number has a final answer.
    #[must_use]
    pub fn is_answered(&self, number: u32) -> bool {
        number <= self.answered_to || self.above.contains(&number)
    }
}

impl Checker {
    /// A sender of this thread has sent.
    pub fn sent(&mut self, sender: u32, conversation: u32, number: u32) {
        let lane = self.answered.entry((sender, conversation)).or_default();
        lane.sent = lane.sent.max(number);
    }

    /// A sender of this thread got its final answer.
    pub fn answered(&mut self, sender: u32, conversation: u32, number: u32, accepted: bool) {
        let lane = self.answered.entry((sender, conversation)).or_default();
        if lane.is_answered(number) {
            return;
        }
        lane.answer(number);
        if accepted {
            lane.acknowledged += 1;
            self.findings.acknowledged += 1;
        } else {
            lane.refused.push(number);
            self.findings.refused += 1;
        }
    }

    /// A receiver of this thread got a message for the first time, as its (chat, seq) filter says. `again`: it is a copy
    /// that the sender sent later than the first, so it may follow its successors.
    pub fn delivered(
        &mut self,
        receiver: u32,
        sender: u32,
        conversation: u32,
        number: u32,
        again: bool,
    ) {
        self.findings.delivered += 1;
        let lane = (sender, conversation);
        let seen = self.seen.entry((receiver, lane)).or_default();
        if number > *seen {
            for skipped in *seen + 1..number {
                if self.missing.len() < MISSING_MAX {
                    self.missing.insert((receiver, lane, skipped));
                } else {
                    self.missing_overflow += 1;
                }
            }
            *seen = number;
        } else if self.missing.remove(&(receiver, lane, number)) {
            self.findings.reordered += u64::from(!again);
        } else {
            self.findings.duplicated += 1;
        }
    }

    /// A frame's seq was not above its predecessor's in the chat, and it was not a known redelivery.
    pub fn seq_regressed(&mut self) {
        self.findings.seq_regressed += 1;
    }

    /// A redelivery was filtered.
    pub fn refiltered(&mut self) {
        self.findings.refiltered += 1;
    }

    /// What the senders of this thread know, for [`Checker::finish`] of every thread.
    #[must_use]
    pub fn lanes(&self) -> AHashMap<Lane, Numbers> {
        self.answered.clone()
    }

    /// Judges: `lanes` holds all senders of the run, `receivers` lists who should have got each
    /// conversation's messages among this thread's users.
    pub fn finish<'a>(
        mut self,
        lanes: &AHashMap<Lane, Numbers>,
        receivers: impl Fn(u32) -> &'a [u32],
        mine: impl Fn(u32) -> bool,
    ) -> Findings {
        for (lane, numbers) in &self.answered {
            let _ = lane;
            let answered = u64::from(numbers.answered_to) + numbers.above.len() as u64;
            self.findings.unanswered += u64::from(numbers.sent).saturating_sub(answered);
        }
        for (receiver, lane, number) in &self.missing {
            let explained = lanes
                .get(lane)
                .is_none_or(|n| n.refused.contains(number) || !n.is_answered(*number));
            let _ = receiver;
            self.findings.lost += u64::from(!explained);
        }
        self.findings.lost += self.missing_overflow;
        for (lane, numbers) in lanes {
            for receiver in receivers(lane.1)
                .iter()
                .copied()
                .filter(|r| *r != lane.0 && mine(*r))
            {
                let seen = self.seen.get(&(receiver, *lane)).copied().unwrap_or(0);
                let tail = (seen + 1..=numbers.sent)
                    .filter(|n| numbers.is_answered(*n) && !numbers.refused.contains(n));
                self.findings.lost += tail.count() as u64;
            }
        }
        self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u32] = &[1, 2];

    fn judge(checker: Checker) -> Findings {
        let lanes = checker.lanes();
        checker.finish(&lanes, |_| TWO, |_| true)
    }

    fn sent(numbers: u32) -> Checker {
        let mut checker = Checker::default();
        for number in 1..=numbers {
            checker.sent(1, 0, number);
            checker.answered(1, 0, number, true);
        }
        checker
    }

    #[test]
    fn what_arrives_once_and_in_order_is_clean() {
        let mut checker = sent(3);
        (1..=3).for_each(|n| checker.delivered(2, 1, 0, n, false));
        let findings = judge(checker);
        assert!(findings.clean(), "{findings:?}");
        assert_eq!((findings.acknowledged, findings.delivered), (3, 3));
    }

    #[test]
    fn a_hole_and_a_missing_tail_are_lost() {
        let mut checker = sent(4);
        checker.delivered(2, 1, 0, 1, false);
        checker.delivered(2, 1, 0, 3, false);
        assert_eq!(judge(checker).lost, 2);
    }

    #[test]
    fn a_late_one_is_reordered_and_a_second_one_duplicated() {
        let mut checker = sent(3);
        for number in [1, 3, 2, 2] {
            checker.delivered(2, 1, 0, number, false);
        }
        let findings = judge(checker);
        assert_eq!(
            (findings.lost, findings.reordered, findings.duplicated),
            (0, 1, 1)
        );
    }

    #[test]
    fn a_copy_sent_again_may_follow_its_successors_but_not_itself() {
        let mut checker = sent(2);
        checker.delivered(2, 1, 0, 2, false);
        checker.delivered(2, 1, 0, 1, true);
        checker.delivered(2, 1, 0, 1, true);
        let findings = judge(checker);
        assert_eq!(
            (findings.lost, findings.reordered, findings.duplicated),
            (0, 0, 1)
        );
    }

    #[test]
    fn refused_and_unanswered_numbers_are_not_lost() {
        let mut checker = sent(1);
        checker.sent(1, 0, 2);
        checker.answered(1, 0, 2, false);
        checker.sent(1, 0, 3);
        checker.delivered(2, 1, 0, 1, false);
        let findings = judge(checker);
        assert_eq!(
            (findings.lost, findings.refused, findings.unanswered),
            (0, 1, 1)
        );
    }

    #[test]
    fn a_receiver_that_got_nothing_lost_everything() {
        assert_eq!(judge(sent(5)).lost, 5);
    }
}
