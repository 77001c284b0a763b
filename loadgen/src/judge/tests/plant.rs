//! One broken promise of each kind.

use super::World;
use crate::history::{Entry, Id, Op, Place};
use crate::judge::Kind;

/// Far from anything that a world made.
const AWAY: u64 = 1_000_000;

/// Breaks one promise; `None` when this world gives no occasion.
pub(super) fn plant(world: &mut World, kind: Kind, pick: usize) -> Option<()> {
    match kind {
        Kind::LostDelivery => {
            let at = world.deliver(pick)?;
            world.entries.remove(at);
        }
        Kind::LostHistory => {
            let at = world.pick(pick, |op| matches!(op, Op::Row { .. }))?;
            world.entries.remove(at);
        }
        Kind::Duplicate => again(world, pick, |place| {
            place.seq += AWAY;
            place.ord += AWAY;
        })?,
        Kind::Fencing => again(world, pick, |place| place.id = Id([0xee; 16]))?,
        Kind::RefusedButShown => {
            let twice = sent_again(world);
            let refused = world.pick(
                pick,
                |op| matches!(op, Op::Fail { id, .. } if !twice.contains(id)),
            )?;
            let Op::Fail { id, .. } = world.entries[refused].op else {
                return None;
            };
            again(world, pick, |place| {
                *place = Place {
                    id,
                    seq: place.seq + AWAY,
                    ord: place.ord + AWAY,
                    ..*place
                }
            })?;
        }
        Kind::Inversion => {
            let (a, b) = neighbours(world, pick)?;
            let op = world.entries[a].op.clone();
            world.entries[a].op = std::mem::replace(&mut world.entries[b].op, op);
        }
        Kind::SenderOrder => swap_numbers(world, pick)?,
        Kind::Gap => {
            let (_, second) = neighbours(world, pick)?;
            neighbours_from(world, second)?;
            world.entries.remove(second);
        }
        Kind::HistoryGap => {
            let at = world.pick(
                pick,
                |op| matches!(op, Op::Row { place, .. } if place.ord > 1),
            )?;
            world.place(at).prev += AWAY;
        }
        Kind::TwoResults => {
            let at = world.pick(pick, |op| matches!(op, Op::Ok { .. }))?;
            let mut twin = world.entries[at].clone();
            if let Op::Ok { off, mid, .. } = &mut twin.op {
                *off = 0;
                "other".clone_into(mid);
            }
            world.entries.insert(at + 1, twin);
        }
        Kind::CursorRegressed => {
            let at = world.pick(pick, |op| matches!(op, Op::Ack { off } if *off > 0))?;
            let (t, u) = (1, world.entries[at].u);
            let op = Op::Ack { off: 0 };
            world.entries.insert(at + 1, Entry { t, u, op });
        }
        Kind::OffsetRegressed => {
            let at = world.deliver(pick)?;
            let twin = world.entries[at].clone();
            again(world, pick, |_| ())?;
            world.entries.push(twin);
        }
        Kind::MixedReplay => {
            let at = world.deliver(pick)?;
            if let Op::Deliver { replayed, .. } = &mut world.entries[at].op {
                *replayed ^= true;
            }
        }
        Kind::Ghost => {
            let at = world.pick(pick, |op| matches!(op, Op::Ok { .. }))?;
            let id = world.place(at).id;
            let sent = |op: &Op| matches!(op, Op::Send { id: sent, .. } if *sent == id);
            world.entries.retain(|entry| !sent(&entry.op));
        }
    }
    Some(())
}

/// Messages with more than one attempt.
fn sent_again(world: &World) -> Vec<Id> {
    let again = world.entries.iter().filter_map(|entry| match entry.op {
        Op::Send {
            id, again: true, ..
        } => Some(id),
        _ => None,
    });
    again.collect()
}

/// A delivery comes once more at a later offset, changed.
fn again(world: &mut World, pick: usize, change: impl FnOnce(&mut Place)) -> Option<()> {
    let at = world.deliver(pick)?;
    let mut twin = world.entries[at].clone();
    if let Op::Deliver { off, place, .. } = &mut twin.op {
        *off += AWAY;
        change(place);
    }
    world.entries.push(twin);
    Some(())
}

/// Two messages of one sender to one chat, sent once each and accepted, swap their numbers.
fn swap_numbers(world: &mut World, pick: usize) -> Option<()> {
    let accepted = |id: Id| {
        let ok = |e: &Entry| matches!(&e.op, Op::Ok { place, .. } if place.id == id);
        let again =
            |e: &Entry| matches!(&e.op, Op::Send { id: sent, again: true, .. } if *sent == id);
        world.entries.iter().any(ok) && !world.entries.iter().any(again)
    };
    let sends: Vec<(u32, u32, usize)> = (0..world.entries.len())
        .filter_map(|at| match &world.entries[at].op {
            Op::Send { c, id, .. } if accepted(*id) => Some((world.entries[at].u, *c, at)),
            _ => None,
        })
        .collect();
    let mut pairs = Vec::new();
    for (place, (u, c, a)) in sends.iter().enumerate() {
        let next = sends[place + 1..].iter().find(|(v, d, _)| v == u && d == c);
        pairs.extend(next.map(|(_, _, b)| (*a, *b)));
    }
    let (a, b) = *pairs.get(pick % pairs.len().max(1))?;
    let number = |entry: &Entry| match entry.op {
        Op::Send { n, .. } => n,
        _ => 0,
    };
    let (before, after) = (number(&world.entries[a]), number(&world.entries[b]));
    for (at, number) in [(a, after), (b, before)] {
        if let Op::Send { n, .. } = &mut world.entries[at].op {
            *n = number;
        }
    }
    Some(())
}

/// Two deliveries of one chat to one device, one after the other there.
fn neighbours(world: &World, pick: usize) -> Option<(usize, usize)> {
    let firsts: Vec<(usize, usize)> = (0..world.entries.len())
        .filter_map(|at| neighbours_from(world, at))
        .collect();
    firsts.get(pick % firsts.len().max(1)).copied()
}

/// This delivery, and the next one of the chat to the device.
fn neighbours_from(world: &World, at: usize) -> Option<(usize, usize)> {
    let lane = |entry: &Entry| match &entry.op {
        Op::Deliver { place, .. } => Some((entry.u, place.c)),
        _ => None,
    };
    let mine = lane(&world.entries[at])?;
    let later = at + 1..world.entries.len();
    let next = later
        .into_iter()
        .find(|b| lane(&world.entries[*b]) == Some(mine))?;
    Some((at, next))
}
