//! The server's half of a session: one step of its machine.

use crate::case::{Case, Failed, count};
use crate::codec::BODIES;
use hawser_benches::send;
use hawser_protocol::frame::{Ack, ClientFrame, ServerFrame};
use hawser_protocol::ids::{ChatId, Seq};
use hawser_protocol::limits::{HEARTBEAT_MS_DEFAULT, WINDOW_BYTES, WINDOW_FRAMES};
use hawser_protocol::pb;
use hawser_protocol::server::{
    Action, Now, Offer, Session, Settings, SpareWindows, Start, UserRates,
};

const ROUNDS: u32 = 64;
const FIRST: u64 = 1_000;
const SETTINGS: Settings = Settings {
    heartbeat_ms: HEARTBEAT_MS_DEFAULT,
    window_frames: WINDOW_FRAMES,
    window_bytes: WINDOW_BYTES,
    sends_per_second: 1_000_000,
    sends_burst: 1_000_000,
    bytes_per_second: 1 << 30,
};
const NOW: Now = Now {
    ms: 5_000,
    wall_ms: 1_700_000_000_000,
};

pub(crate) fn cases() -> Vec<Case> {
    let mut all = vec![welcome(), deliver(1), deliver(8), ack(1), ack(8), ping()];
    all.extend(BODIES.map(|(name, body)| sending(name, body)));
    all
}

/// A session that is live at [`FIRST`].
fn live() -> Result<Session, Failed> {
    let mut session = Session::new(&SETTINGS, Start::Resumed(FIRST), 0, u64::MAX, NOW);
    match session.at_end(FIRST) {
        Some(FIRST) => Ok(session),
        _ => Err("it is not live".into()),
    }
}

/// A session begins, and its Welcome is written.
fn welcome() -> Case {
    Case::new("session/welcome", ROUNDS, |rounds| {
        let mut out = Vec::with_capacity(4_096);
        for _ in 0..rounds {
            out.clear();
            count(|| {
                let session = Session::new(&SETTINGS, Start::Live(FIRST), 0, u64::MAX, NOW);
                let welcome = pb::Welcome {
                    session: String::from("0.0.7.1"),
                    user: String::from("alice"),
                    device: String::from("phone"),
                    server_time_ms: NOW.wall_ms,
                    generation: 1,
                    head: session.position(),
                    heartbeat_ms: session.heartbeat_ms(),
                    ..pb::Welcome::default()
                };
                ServerFrame::Welcome(welcome).encode(&mut out);
                session
            });
            (!out.is_empty()).then_some(()).ok_or("no Welcome")?;
        }
        Ok(())
    })
}

/// A record is offered and noted, by a session that has this many before its next ack.
fn deliver(before_ack: u64) -> Case {
    let name = format!("session/deliver_{before_ack}_per_ack");
    Case::new(name, ROUNDS, move |rounds| {
        let (mut session, chat) = (live()?, ChatId::new("g:team")?);
        let (mut rates, mut spare) = (UserRates::default(), SpareWindows::default());
        let mut out = Vec::with_capacity(8);
        for offset in FIRST..FIRST + u64::from(rounds) {
            let mut offer = Offer::Old;
            count(|| {
                offer = session.offer(&SETTINGS, offset, true);
                let message = Some((chat.clone(), Seq(offset)));
                session.delivered_with(&mut spare, offset, 300, message);
            });
            (offer == Offer::Send)
                .then_some(())
                .ok_or("not to be sent")?;
            if (offset + 1 - FIRST).is_multiple_of(before_ack) {
                let ack = ClientFrame::Ack(Ack { offset });
                session.frame(&SETTINGS, &mut rates, ack, NOW, &mut out);
                session.return_window(&mut spare);
                out.clear();
            }
        }
        Ok(())
    })
}

/// An ack of so many records of one chat.
fn ack(records: u64) -> Case {
    let name = format!("session/ack_of_{records}");
    Case::new(name, ROUNDS, move |rounds| {
        let (mut session, chat) = (live()?, ChatId::new("g:team")?);
        let (mut rates, mut spare) = (UserRates::default(), SpareWindows::default());
        let mut out = Vec::with_capacity(8);
        let mut offset = FIRST;
        for _ in 0..rounds {
            for _ in 0..records {
                session.offer(&SETTINGS, offset, true);
                let message = Some((chat.clone(), Seq(offset)));
                session.delivered_with(&mut spare, offset, 300, message);
                offset += 1;
            }
            let ack = ClientFrame::Ack(Ack { offset: offset - 1 });
            count(|| {
                session.frame(&SETTINGS, &mut rates, ack, NOW, &mut out);
                session.return_window(&mut spare);
            });
            let told = matches!(
                out.as_slice(),
                [Action::Delivered { .. }, Action::Cursor { .. }]
            );
            told.then_some(()).ok_or("not acknowledged")?;
            out.clear();
        }
        Ok(())
    })
}

fn ping() -> Case {
    Case::new("session/ping", ROUNDS, |rounds| {
        let (mut session, mut rates) = (live()?, UserRates::default());
        let mut out = Vec::with_capacity(8);
        for _ in 0..rounds {
            let ping = ClientFrame::Ping(pb::Ping::default());
            count(|| session.frame(&SETTINGS, &mut rates, ping, NOW, &mut out));
            let told = matches!(out.as_slice(), [Action::Pong { .. }]);
            told.then_some(()).ok_or("no Pong")?;
            out.clear();
        }
        Ok(())
    })
}

/// A Send is let through, and answered.
fn sending(name: &str, body: usize) -> Case {
    Case::new(format!("session/send_{name}"), ROUNDS, move |rounds| {
        let (mut session, mut rates) = (live()?, UserRates::default());
        let mut out = Vec::with_capacity(8);
        for _ in 0..rounds {
            let send = send(body)?;
            let id = send.client_msg_id;
            let frame = ClientFrame::Send(send);
            count(|| {
                session.frame(&SETTINGS, &mut rates, frame, NOW, &mut out);
                session.answered(id);
            });
            let told = matches!(out.as_slice(), [Action::Append(_)]);
            told.then_some(()).ok_or("not let through")?;
            out.clear();
        }
        Ok(())
    })
}
