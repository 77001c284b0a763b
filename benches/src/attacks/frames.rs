//! WebSocket messages that break the rules, or are too much of a good thing (F16, F17).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hawser_protocol::limits::WS_MESSAGE_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::attacker::{Context, Ended, Stage};
use super::floods::wrap;
use super::raw::{How, Inbox, connect, frame};
use super::site::Past;

/// Users that attackers are, in turn: below it everybody is its own.
const USERS: u64 = 100_000;
/// Pings in one write.
const PINGS: usize = 1_000;
/// How long a Welcome may take.
const WELCOME: Duration = Duration::from_secs(20);

/// What is said, and what has to come of it.
#[derive(Debug, Clone)]
pub struct Message {
    /// In words.
    pub what: &'static str,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The close code that answers it.
    pub code: u16,
}

fn of(what: &'static str, first: u8, payload: &[u8], code: u16) -> Message {
    let mut bytes = Vec::new();
    frame(first, payload, &mut bytes);
    Message { what, bytes, code }
}

/// Those of F16.
#[must_use]
pub fn malformed() -> Vec<Message> {
    let mut unmasked = of("unmasked", 0x82, b"abc", 1002);
    unmasked.bytes[1] &= 0x7f;
    let mut endless = vec![0x82, 0xff];
    endless.extend_from_slice(&(1_u64 << 63).to_be_bytes());
    endless.extend_from_slice(&[0; 4]);
    vec![
        of("reserved bits", 0xc2, b"x", 1002),
        unmasked,
        of("bad opcode", 0x83, b"x", 1002),
        of("fragmented control", 0x09, b"x", 1002),
        Message {
            what: "length 2^63",
            bytes: endless,
            code: 1002,
        },
        of("bad UTF-8", 0x81, &[0xff, 0xfe], 1007),
    ]
}

/// For comparison: a close as it should be.
#[must_use]
pub fn sound() -> Vec<Message> {
    vec![of("a proper close", 0x88, &1000_u16.to_be_bytes(), 1000)]
}

/// A message that is longer than the limit, by this many bytes.
#[must_use]
pub fn oversize(by: usize) -> Vec<Message> {
    let payload = vec![0; WS_MESSAGE_BYTES_MAX + by];
    vec![of("oversize", 0x82, &payload, 1009)]
}

/// A message of so many fragments of one byte.
#[must_use]
pub fn fragments(count: usize) -> Vec<Message> {
    let mut message = of("fragments", 0x02, b"x", 1008);
    for _ in 1..count {
        frame(0x00, b"x", &mut message.bytes);
    }
    vec![message]
}

/// Pings before the Hello, which is asked for by a code of the session protocol.
#[must_use]
pub fn early_pings(count: usize) -> Vec<Message> {
    let mut message = of("pings", 0x89, b"0123456789", 4000);
    for _ in 1..count {
        frame(0x89, b"0123456789", &mut message.bytes);
    }
    vec![message]
}

/// One connection that says one of these.
pub(super) async fn say(
    context: &Context,
    number: u64,
    message: &Message,
    stage: Stage,
    tls: bool,
) -> Ended {
    let since = Instant::now();
    let how = spoken(context, number, message, stage, tls).await;
    Ended {
        what: message.what.to_owned(),
        how,
        lived: since.elapsed(),
    }
}

async fn spoken(context: &Context, number: u64, message: &Message, stage: Stage, tls: bool) -> How {
    let to = if tls {
        context.site.tls
    } else {
        context.site.plain
    };
    let Ok(stream) = connect(to, number, None).await else {
        return How::Unconnected;
    };
    context.opened();
    if !tls {
        return break_rules(context, stream, number, message, stage).await;
    }
    match wrap(context, stream).await {
        Ok(stream) => break_rules(context, stream, number, message, stage).await,
        Err(how) => how,
    }
}

async fn break_rules<S>(
    context: &Context,
    mut stream: S,
    number: u64,
    message: &Message,
    stage: Stage,
) -> How
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut inbox = Inbox::default();
    if let Err(how) = inbox.upgrade(&mut stream).await {
        return how;
    }
    if stage == Stage::Live
        && let Err(how) = greet(context, &mut stream, &mut inbox, number).await
    {
        return how;
    }
    let (mut reader, mut writer) = tokio::io::split(stream);
    let written = async {
        // It may be closed before all of it is said: reading says how.
        let _ = writer.write_all(&message.bytes).await;
        let _ = writer.flush().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        how = inbox.last_word(&mut reader) => how,
        () = written => How::Open,
    }
}

/// Becomes a live session of this number's user.
async fn greet<S>(
    context: &Context,
    stream: &mut S,
    inbox: &mut Inbox,
    number: u64,
) -> Result<(), How>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let user = format!("bad{}", number % USERS);
    let hello = context.site.hello(&user, "d", Past::default());
    let sent = stream.write_all(&hello).await;
    sent.map_err(|error| How::failed(&error))?;
    let welcomed = async {
        loop {
            if let Some((opcode, payload)) = inbox.frame() {
                match opcode {
                    2 => return Ok(()),
                    8 => return Err(How::Close(super::raw::code(&payload))),
                    _ => continue,
                }
            }
            let read = inbox.fill(stream).await;
            if !read.map_err(|error| How::failed(&error))? {
                return Err(How::Ended);
            }
        }
    };
    let waited = tokio::time::timeout(WELCOME, welcomed).await;
    waited.unwrap_or(Err(How::Open))
}

/// A live session that sends pings as fast as it is let, reads what comes, and counts its pings; until the attack is over.
pub(super) async fn pings(context: &Context, number: u64) -> Ended {
    let since = Instant::now();
    let how = flood(context, number).await;
    Ended {
        what: "pings".to_owned(),
        how,
        lived: since.elapsed(),
    }
}

async fn flood(context: &Context, number: u64) -> How {
    let Ok(mut stream) = connect(context.site.plain, number, None).await else {
        return How::Unconnected;
    };
    context.opened();
    let mut inbox = Inbox::default();
    if let Err(how) = inbox.upgrade(&mut stream).await {
        return how;
    }
    if let Err(how) = greet(context, &mut stream, &mut inbox, number).await {
        return how;
    }
    let mut some = Vec::new();
    for _ in 0..PINGS {
        frame(0x89, b"", &mut some);
    }
    let (mut reader, mut writer) = stream.split();
    tokio::select! {
        how = inbox.last_word(&mut reader) => how,
        how = pour(context, &mut writer, &some) => how,
        () = over(context) => How::Open,
    }
}

async fn pour(context: &Context, writer: &mut (impl AsyncWrite + Unpin), some: &[u8]) -> How {
    loop {
        if let Err(error) = writer.write_all(some).await {
            return How::failed(&error);
        }
        context.units.fetch_add(PINGS as u64, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

/// Until the attack is over.
async fn over(context: &Context) {
    while !context.over.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_breaks_the_rule_that_it_is_named_for() {
        use hawser_wire::ws::{Decoder, Limits, Role};
        let all = [
            malformed(),
            oversize(1),
            oversize(9 * WS_MESSAGE_BYTES_MAX),
            fragments(100_000),
        ];
        for message in all.concat() {
            let mut decoder = Decoder::new(Role::Server, Limits::default());
            let (mut bytes, mut at) = (message.bytes.clone(), 0);
            let error = loop {
                match decoder.next(&mut bytes, &mut at) {
                    Ok(_) => assert!(at < bytes.len(), "{}", message.what),
                    Err(error) => break error,
                }
            };
            let code = u16::from(error.close_code());
            assert_eq!(code, message.code, "{}", message.what);
        }
        assert_eq!(sound()[0].bytes.len(), 8);
    }
}
