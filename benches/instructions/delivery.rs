//! What a core keeps beside its sessions: the replay ring, cursors, receipts.

use crate::case::{Case, Failed, count};
use crate::codec::user;
use hawser_gateway::deliver::cursors::CursorTable;
use hawser_gateway::deliver::receipts::PendingReceipts;
use hawser_gateway::deliver::replay::{Missed, ReplayRings};
use hawser_protocol::ids::{ChatId, DeviceId, Seq, UserId};

const ROUNDS: u32 = 16;
/// Users of the core in question.
const USERS: u32 = 10_000;

pub(crate) fn cases() -> Vec<Case> {
    vec![push(), next(), advance(), note(), pop()]
}

fn users(many: u32) -> Result<Vec<UserId>, Failed> {
    (0..many).map(user).collect()
}

/// One more recipient of a record that the ring takes in, while an old one goes for it.
fn push() -> Case {
    Case::one_more(
        "replay/push_recipient",
        [100, 1_000],
        ROUNDS,
        |recipients| {
            let users = users(recipients)?;
            let mut rings = ReplayRings::new(1 << 20);
            rings.open(0, 0);
            let names = || users.iter().map(UserId::as_str);
            let mut offset = 0;
            while rings.evicted() == 0 {
                rings.push(0, offset, &[7; 300], names());
                offset += 1;
            }
            for _ in 0..ROUNDS {
                count(|| rings.push(0, offset, &[7; 300], names()));
                offset += 1;
            }
            Ok(())
        },
    )
}

/// A session that is behind reads its next record.
fn next() -> Case {
    Case::new("replay/next", ROUNDS, |rounds| {
        let mut rings = ReplayRings::new(64 << 20);
        rings.open(0, 0);
        let users = users(USERS)?;
        for (offset, user) in (0..).zip(users.iter().cycle().take(5 * USERS as usize)) {
            rings.push(0, offset, &[7; 300], std::iter::once(user.as_str()));
        }
        let me = || std::iter::once("user-000777");
        let mut from = 0;
        for round in 0..rounds {
            // Four of its records are read, then the end is found.
            let mut read = None;
            count(|| {
                read = match rings.next(0, me(), from) {
                    Missed::Record { offset, .. } => Some(offset),
                    _ => None,
                };
            });
            from = match (read, round % 4) {
                (Some(_), 3) => 0,
                (Some(offset), _) => offset + 1,
                (None, _) => return Err("no record".into()),
            };
        }
        Ok(())
    })
}

/// A device of many acknowledges.
fn advance() -> Case {
    Case::new("cursors/advance", 1_024, |rounds| {
        let (users, device) = (users(USERS)?, DeviceId::new("phone")?);
        let mut table = CursorTable::new(1_000, 3_600_000);
        table.open(0, 0);
        let mut places = vec![u32::MAX; users.len()];
        for (user, place) in users.iter().zip(&mut places) {
            table.advance(0, user, &device, 1, place);
        }
        for (user, place) in users.iter().zip(&mut places).take(rounds as usize) {
            let mut moved = false;
            count(|| moved = table.advance(0, user, &device, 2, place));
            moved.then_some(()).ok_or("not raised")?;
        }
        Ok(())
    })
}

/// A watermark is noted, of a user of whom none waits.
fn note() -> Case {
    Case::new("receipts/note", 1_024, |rounds| {
        let (users, device, chat) = (users(USERS)?, DeviceId::new("d")?, ChatId::new("g:a")?);
        let mut pending = PendingReceipts::default();
        for (seq, user) in (1..).zip(&users) {
            pending.note(user, &device, &chat, Seq(seq), Seq::NONE);
        }
        while pending.pop().is_some() {}
        for user in users.iter().take(rounds as usize) {
            count(|| pending.note(user, &device, &chat, Seq(9), Seq::NONE));
        }
        (pending.len() == rounds as usize)
            .then_some(())
            .ok_or("not noted")?;
        Ok(())
    })
}

/// One of ten thousand watermarks is taken out, until none is left.
fn pop() -> Case {
    Case::new("receipts/pop", USERS, |many| {
        let (users, device, chat) = (users(many)?, DeviceId::new("d")?, ChatId::new("g:a")?);
        let mut pending = PendingReceipts::default();
        for user in &users {
            pending.note(user, &device, &chat, Seq(9), Seq::NONE);
        }
        while !pending.is_empty() {
            count(|| pending.pop());
        }
        Ok(())
    })
}
