//! The offline checker: judges a [`crate::history`], whoever made it and whatever was killed meanwhile.
//!
//! Pure: entries in, a verdict out. What it looks for is in [`Kind`]. Entries of one device come in their order; those of
//! different devices may come in any.

mod end;
mod verdict;

use ahash::{AHashMap, AHashSet};

use crate::history::{Entry, Id, Op, Place, Run};

pub use verdict::{Kind, Offence, Verdict};

/// Offences of each kind that are kept with their context; all are counted.
const KEPT: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Open,
    Acknowledged,
    Refused,
}

#[derive(Debug)]
struct Message {
    id: Id,
    chat: u32,
    /// Who sent it, and its number; 0: not sent in this run.
    sender: u32,
    number: u32,
    again: bool,
    outcome: Outcome,
    /// (seq, ordinal), as first said.
    place: Option<(u64, u64)>,
    /// As the first SendResult said.
    mid: Option<String>,
    in_history: bool,
    t: u64,
}

#[derive(Debug, Default)]
struct InChat {
    /// Seqs that the device knows: delivered, or its own by SendResult.
    known: AHashSet<u64>,
    first: u64,
    last: u64,
    /// (predecessor, message) that was not known when its successor came.
    open: Vec<(u64, u32)>,
}

#[derive(Debug, Default)]
struct Device {
    live: bool,
    lost: bool,
    /// Whether replay has ended; `None`: there may be none.
    caught_up: Option<bool>,
    /// Largest delivery offset, over connections.
    seen: Option<u64>,
    /// What the connection began with.
    floor: Option<u64>,
    acked: Option<u64>,
    chats: AHashMap<u32, InChat>,
}

/// Takes entries, then judges.
pub struct Judge {
    chats: Vec<Vec<u32>>,
    verdict: Verdict,
    messages: Vec<Message>,
    by_id: AHashMap<Id, u32>,
    by_seq: AHashMap<(u32, u64), u32>,
    by_ordinal: AHashMap<(u32, u64), u32>,
    devices: AHashMap<u32, Device>,
    /// (user, message) shown.
    shown: AHashSet<(u32, u32)>,
    rows: AHashMap<u32, Vec<Place>>,
    swept: AHashMap<u32, u64>,
}

impl Judge {
    /// Of a run.
    #[must_use]
    pub fn new(run: &Run) -> Self {
        Self {
            chats: run.chats.iter().map(|chat| chat.members.clone()).collect(),
            verdict: Verdict::default(),
            messages: Vec::new(),
            by_id: AHashMap::new(),
            by_seq: AHashMap::new(),
            by_ordinal: AHashMap::new(),
            devices: AHashMap::new(),
            shown: AHashSet::new(),
            rows: AHashMap::new(),
            swept: AHashMap::new(),
        }
    }

    /// The next entry.
    pub fn entry(&mut self, entry: &Entry) {
        self.verdict.entries += 1;
        let (t, u) = (entry.t, entry.u);
        match &entry.op {
            Op::Send { c, id, n, again } => {
                let at = self.message(*id, *c, t);
                let message = &mut self.messages[at as usize];
                (message.sender, message.number) = (u, *n);
                message.again |= again;
            }
            Op::Queued { .. } | Op::Unknown { .. } => {}
            Op::Ok { off, place, mid } => self.acknowledged(t, u, *off, place, mid),
            Op::Fail { id, .. } => {
                if let Some(at) = self.by_id.get(id) {
                    let message = &mut self.messages[*at as usize];
                    if message.outcome == Outcome::Open {
                        message.outcome = Outcome::Refused;
                    }
                }
            }
            Op::Welcome { recovered } => self.welcome(u, *recovered),
            Op::CaughtUp => self.device(u).caught_up = Some(true),
            Op::Deliver {
                off,
                place,
                replayed,
                ..
            } => {
                self.offset(t, u, *off, Some(place));
                if self.device(u).caught_up == Some(*replayed) {
                    let words = if *replayed {
                        "a replayed frame after CaughtUp"
                    } else {
                        "a live frame before CaughtUp"
                    };
                    self.offend(Kind::MixedReplay, t, u, Some(place), words.to_owned());
                }
                self.shown(t, u, place);
            }
            Op::Receipt { off } => self.offset(t, u, *off, None),
            Op::Ack { off } => {
                let before = self.device(u).acked.replace(*off);
                if let Some(before) = before.filter(|before| before > off) {
                    let words = format!("acknowledged {off} after {before}");
                    self.offend(Kind::CursorRegressed, t, u, None, words);
                }
            }
            Op::Close { .. } => {}
            Op::Row { place, .. } => {
                self.verdict.rows += 1;
                let at = self.placed(t, u, place);
                self.messages[at as usize].in_history = true;
                self.rows.entry(place.c).or_default().push(*place);
            }
            Op::Swept {
                c,
                truncated_before,
            } => {
                self.swept.insert(*c, *truncated_before);
            }
            Op::Cut => self.verdict.cut = true,
        }
    }

    /// The verdict.
    #[must_use]
    pub fn finish(mut self) -> Verdict {
        self.count_outcomes();
        self.judge_deliveries();
        self.judge_gaps();
        self.judge_history();
        self.judge_senders();
        self.verdict.unjudged_devices = self.devices.values().filter(|d| d.lost).count() as u64;
        self.verdict
            .first
            .sort_by_key(|offence| (offence.kind, offence.t));
        self.verdict
    }

    fn device(&mut self, user: u32) -> &mut Device {
        self.devices.entry(user).or_default()
    }

    fn message(&mut self, id: Id, chat: u32, t: u64) -> u32 {
        let messages = &mut self.messages;
        *self.by_id.entry(id).or_insert_with(|| {
            let at = u32::try_from(messages.len()).unwrap_or(u32::MAX);
            messages.push(Message {
                id,
                chat,
                sender: 0,
                number: 0,
                again: false,
                outcome: Outcome::Open,
                place: None,
                mid: None,
                in_history: false,
                t,
            });
            at
        })
    }

    fn offend(&mut self, kind: Kind, t: u64, user: u32, place: Option<&Place>, words: String) {
        let count = self.verdict.counts.entry(kind).or_default();
        *count += 1;
        if *count <= KEPT as u64 {
            self.verdict.first.push(Offence {
                kind,
                t,
                user,
                chat: place.map(|place| place.c),
                id: place.map(|place| place.id),
                words,
            });
        }
    }

    fn welcome(&mut self, user: u32, recovered: bool) {
        self.verdict.welcomes += 1;
        self.verdict.recovered += u64::from(recovered);
        let device = self.device(user);
        if device.live && !recovered {
            device.lost = true;
            (device.seen, device.acked) = (None, None);
        }
        device.live = true;
        // A session that is not recovered may have nothing to catch up with.
        device.caught_up = recovered.then_some(false);
        device.floor = device.seen;
    }

    /// A frame with a delivery offset.
    fn offset(&mut self, t: u64, user: u32, off: u64, place: Option<&Place>) {
        let device = self.device(user);
        let floor = device.floor.take();
        let seen = device.seen.max(Some(off));
        let before = std::mem::replace(&mut device.seen, seen);
        let repeated = floor.is_some_and(|floor| off <= floor);
        if repeated || before.is_some_and(|before| off < before) {
            let words = format!("delivery offset {off} after {}", before.unwrap_or(0));
            self.offend(Kind::OffsetRegressed, t, user, place, words);
        }
    }

    /// A message has this place, whoever says so.
    fn placed(&mut self, t: u64, user: u32, place: &Place) -> u32 {
        let at = self.message(place.id, place.c, t);
        let said = (place.seq, place.ord);
        let message = &mut self.messages[at as usize];
        let first = *message.place.get_or_insert(said);
        if first != said {
            let words = format!(
                "seq {} ordinal {} and seq {} ordinal {}",
                first.0, first.1, place.seq, place.ord
            );
            self.offend(Kind::Duplicate, t, user, Some(place), words);
        }
        let by_seq = *self.by_seq.entry((place.c, place.seq)).or_insert(at);
        let by_ordinal = *self.by_ordinal.entry((place.c, place.ord)).or_insert(at);
        for (other, what) in [(by_seq, "seq"), (by_ordinal, "ordinal")] {
            if other != at {
                let other = self.messages[other as usize].id;
                let words = format!("{what} {said:?} is that of {other} too");
                self.offend(Kind::Fencing, t, user, Some(place), words);
            }
        }
        at
    }

    fn acknowledged(&mut self, t: u64, user: u32, off: u64, place: &Place, mid: &str) {
        if off > 0 {
            self.offset(t, user, off, Some(place));
        }
        let before = self
            .by_id
            .get(&place.id)
            .map(|at| &self.messages[*at as usize]);
        let twice = before.is_some_and(|message| {
            message.outcome == Outcome::Acknowledged
                && (message.mid.as_deref() != Some(mid)
                    || message.place != Some((place.seq, place.ord)))
        });
        if twice {
            self.offend(
                Kind::TwoResults,
                t,
                user,
                Some(place),
                format!("a second SendResult says {mid}"),
            );
        }
        let at = self.placed(t, user, place);
        let message = &mut self.messages[at as usize];
        message.outcome = Outcome::Acknowledged;
        message.mid.get_or_insert_with(|| mid.to_owned());
        self.know(user, place, at);
    }

    /// The device knows this message; whether it is new to it.
    fn know(&mut self, user: u32, place: &Place, at: u32) -> bool {
        let chat = self.device(user).chats.entry(place.c).or_default();
        if !chat.known.insert(place.seq) {
            return false;
        }
        if chat.first == 0 || place.seq < chat.first {
            chat.first = place.seq;
        }
        if place.prev != 0 && !chat.known.contains(&place.prev) {
            chat.open.push((place.prev, at));
        }
        true
    }

    fn shown(&mut self, t: u64, user: u32, place: &Place) {
        let at = self.placed(t, user, place);
        if !self.know(user, place, at) {
            self.verdict.redelivered += 1;
            return;
        }
        self.verdict.delivered += 1;
        let is_first = self.shown.insert((user, at));
        if !is_first {
            self.offend(
                Kind::Duplicate,
                t,
                user,
                Some(place),
                format!("shown again at seq {}", place.seq),
            );
        }
        let chat = self.device(user).chats.entry(place.c).or_default();
        let last = chat.last;
        chat.last = last.max(place.seq);
        if place.seq < last {
            let words = format!("seq {} after {last}", place.seq);
            self.offend(Kind::Inversion, t, user, Some(place), words);
        }
    }
}

#[cfg(test)]
mod tests;
