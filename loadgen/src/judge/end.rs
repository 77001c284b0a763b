//! What can be judged only once everything was read.

use ahash::AHashMap;

use super::{Judge, Kind, Outcome};
use crate::history::Place;

/// (seq, number, message) of one sender in one chat.
type Numbered = (u64, u32, u32);

impl Judge {
    pub(super) fn count_outcomes(&mut self) {
        let mut ghosts = Vec::new();
        for (at, message) in (0_u32..).zip(&self.messages) {
            if message.number == 0 {
                continue;
            }
            self.verdict.sent += 1;
            match message.outcome {
                Outcome::Open => self.verdict.unknown += 1,
                Outcome::Acknowledged => self.verdict.acknowledged += 1,
                Outcome::Refused => {
                    self.verdict.refused += 1;
                    if message.place.is_some() && !message.again {
                        ghosts.push(at);
                    }
                }
            }
        }
        for at in ghosts {
            let (t, sender, place) = self.told(at);
            self.offend(
                Kind::RefusedButShown,
                t,
                sender,
                Some(&place),
                "refused, and it has a place".to_owned(),
            );
        }
    }

    /// (time, sender, place) of a message, for words about it.
    fn told(&self, at: u32) -> (u64, u32, Place) {
        let message = &self.messages[at as usize];
        let (seq, ord) = message.place.unwrap_or_default();
        let place = Place {
            c: message.chat,
            id: message.id,
            seq,
            prev: 0,
            ord,
        };
        (message.t, message.sender, place)
    }

    /// Every member's device got what was acknowledged.
    pub(super) fn judge_deliveries(&mut self) {
        let mut lost = Vec::new();
        for (at, message) in (0_u32..).zip(&self.messages) {
            if message.outcome != Outcome::Acknowledged || message.number == 0 {
                continue;
            }
            let members = self
                .chats
                .get(message.chat as usize)
                .map_or(&[][..], Vec::as_slice);
            for user in members.iter().filter(|user| **user != message.sender) {
                let judged = self.devices.get(user).is_some_and(|d| d.live && !d.lost);
                if judged && !self.shown.contains(&(*user, at)) {
                    lost.push((at, *user));
                }
            }
        }
        for (at, user) in lost {
            let (t, sender, place) = self.told(at);
            let words = format!(
                "sent by user {sender} as seq {}, and user {user} never got it",
                place.seq
            );
            self.offend(Kind::LostDelivery, t, user, Some(&place), words);
        }
    }

    /// What was not known when its successor came has come by now.
    pub(super) fn judge_gaps(&mut self) {
        let mut gaps = Vec::new();
        for (user, device) in self.devices.iter().filter(|(_, device)| !device.lost) {
            for chat in device.chats.values() {
                let open = chat.open.iter();
                let gap = open.filter(|(prev, _)| *prev > chat.first && !chat.known.contains(prev));
                gaps.extend(gap.map(|(prev, at)| (*user, *prev, *at)));
            }
        }
        gaps.sort_unstable();
        for (user, prev, at) in gaps {
            let (t, _, place) = self.told(at);
            let words = format!("seq {} came, and seq {prev} before it never did", place.seq);
            self.offend(Kind::Gap, t, user, Some(&place), words);
        }
    }

    /// The history that was read at the end holds everything, once, densely.
    pub(super) fn judge_history(&mut self) {
        self.verdict.swept = self.swept.len() as u64;
        let missing: Vec<u32> = (0_u32..)
            .zip(&self.messages)
            .filter(|(_, message)| {
                let truncated = self.swept.get(&message.chat);
                let place = message.place.filter(|_| !message.in_history);
                matches!((truncated, place), (Some(before), Some(place)) if place.1 >= *before)
            })
            .map(|(at, _)| at)
            .collect();
        for at in missing {
            let (t, sender, place) = self.told(at);
            let words = format!("seq {} ordinal {} is not in history", place.seq, place.ord);
            self.offend(Kind::LostHistory, t, sender, Some(&place), words);
        }
        let mut rows: Vec<(u32, Vec<Place>)> = self.rows.drain().collect();
        rows.sort_unstable_by_key(|(chat, _)| *chat);
        for (chat, mut rows) in rows {
            let Some(truncated_before) = self.swept.get(&chat).copied() else {
                continue;
            };
            rows.sort_unstable_by_key(|row| (row.ord, row.seq));
            rows.dedup();
            if let Some(row) = rows.first().filter(|row| row.ord > truncated_before.max(1)) {
                let words = format!("history begins with ordinal {}", row.ord);
                self.offend(Kind::HistoryGap, 0, 0, Some(row), words);
            }
            for pair in rows.windows(2) {
                if pair[1].ord != pair[0].ord + 1 || pair[1].prev != pair[0].seq {
                    let words = format!(
                        "ordinal {} seq {} is followed by ordinal {} seq {} after {}",
                        pair[0].ord, pair[0].seq, pair[1].ord, pair[1].seq, pair[1].prev
                    );
                    self.offend(Kind::HistoryGap, 0, 0, Some(&pair[1]), words);
                }
            }
        }
    }

    /// Numbers of one sender grow with seq, but for what was sent again.
    pub(super) fn judge_senders(&mut self) {
        let mut lanes: AHashMap<(u32, u32), Vec<Numbered>> = AHashMap::new();
        let mut ghosts = Vec::new();
        for (at, message) in (0_u32..).zip(&self.messages) {
            let Some((seq, _)) = message.place else {
                continue;
            };
            if message.number > 0 && !message.again {
                let lane = lanes.entry((message.chat, message.sender)).or_default();
                lane.push((seq, message.number, at));
            } else if message.number == 0 && message.outcome == Outcome::Acknowledged {
                ghosts.push(at);
            }
        }
        let mut inverted = Vec::new();
        for lane in lanes.values_mut() {
            lane.sort_unstable();
            let pairs = lane.windows(2).filter(|pair| pair[1].1 < pair[0].1);
            inverted.extend(pairs.map(|pair| (pair[0].1, pair[1].1, pair[1].2)));
        }
        inverted.sort_unstable();
        for (before, number, at) in inverted {
            let (t, sender, place) = self.told(at);
            let words = format!("number {number} has a later place than number {before}");
            self.offend(Kind::SenderOrder, t, sender, Some(&place), words);
        }
        for at in ghosts {
            let (t, sender, place) = self.told(at);
            self.offend(
                Kind::Ghost,
                t,
                sender,
                Some(&place),
                "nobody sent it".to_owned(),
            );
        }
    }
}
