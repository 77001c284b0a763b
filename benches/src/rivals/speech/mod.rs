//! What servers want to hear, sans-IO: messages in, messages and stamps out. One file per protocol.
//!
//! In all of them a *subscriber* gets what the *publisher* says to everybody, and a *pair member* what its peer says to
//! it alone.

mod hawser;
mod mqtt;
mod nats;
mod nchan;
mod raw;

use std::sync::Arc;

use super::body::Stamp;
pub(crate) use hawser::DEVICE;
pub use hawser::HawserSetting;

/// Which protocol a server speaks inside WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// That of our small broadcast servers: one letter, then the body.
    Raw,
    /// nginx with nchan: the channel is in the path.
    Nchan,
    /// The NATS client protocol.
    Nats,
    /// MQTT 3.1.1, QoS 0.
    Mqtt,
    /// Hawser's session protocol, version 1.
    Hawser,
}

/// Who a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// One of those who hear everything that is said to all.
    Subscriber(u32),
    /// The one who says it.
    Publisher,
    /// A member of a pair: 2n and 2n+1 are peers.
    Pair(u32),
}

impl Who {
    /// The other member of a pair.
    #[must_use]
    pub fn peer(number: u32) -> u32 {
        number ^ 1
    }

    /// A name that is unique among the client's connections, of letters and digits.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Subscriber(number) => format!("r{number}"),
            Self::Publisher => "pub".to_owned(),
            Self::Pair(number) => format!("p{number}"),
        }
    }
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// All subscribers.
    All,
    /// The pair member of this number.
    Peer(u32),
}

/// What a connection heard, and what it says to that.
#[derive(Debug, Default)]
pub struct Heard {
    /// From now on everything that is said to it is heard: said once.
    pub ready: bool,
    /// Bodies that came.
    pub stamps: Vec<Stamp>,
    /// What the server refused, or said that is not understood.
    pub faults: Vec<String>,
    /// Messages to send.
    pub say: Vec<Vec<u8>>,
    /// Something is to be acknowledged: at once, or within the delay of the client.
    pub ack: Ack,
    /// The server wants to hear something so often, milliseconds; 0: as before.
    pub heartbeat_ms: u32,
}

/// When to acknowledge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ack {
    /// Nothing came that wants it.
    #[default]
    No,
    /// Soon, with what comes meanwhile.
    Soon,
    /// Now.
    Now,
}

impl Heard {
    /// One body, which must be ours.
    fn body(&mut self, body: &[u8]) {
        match Stamp::decode(body) {
            Some(stamp) => self.stamps.push(stamp),
            None => self.fault("a body that nobody sent"),
        }
    }

    fn fault(&mut self, words: impl Into<String>) {
        self.faults.push(words.into());
    }
}

/// One connection's side of a protocol. Bytes of the server never panic.
pub trait Speech {
    /// The path of the URL.
    fn path(&self) -> String {
        "/".to_owned()
    }

    /// The subprotocol that must be asked for.
    fn protocol(&self) -> Option<&'static str> {
        None
    }

    /// Whether messages go as text.
    fn is_text(&self) -> bool {
        false
    }

    /// The WebSocket is open.
    fn opened(&mut self, heard: &mut Heard);

    /// A message came.
    fn message(&mut self, bytes: &[u8], heard: &mut Heard);

    /// Says a body; appends the messages that do it.
    fn publish(&mut self, to: To, body: &[u8], say: &mut Vec<Vec<u8>>);

    /// The acknowledgement that is due, where there is one.
    fn ack(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// The heartbeat that is due.
    fn heartbeat(&mut self) -> Option<Vec<u8>> {
        None
    }
}

impl Dialect {
    /// The side of one connection.
    ///
    /// # Errors
    /// `--dialect hawser` without its setting: the caller's to mend.
    pub fn speech(
        self,
        who: Who,
        setting: Option<&Arc<HawserSetting>>,
    ) -> Result<Box<dyn Speech>, NoSetting> {
        Ok(match self {
            Self::Raw => Box::new(raw::Raw::new(who)),
            Self::Nchan => Box::new(nchan::Nchan::new(who)),
            Self::Nats => Box::new(nats::Nats::new(who)),
            Self::Mqtt => Box::new(mqtt::Mqtt::new(who)),
            Self::Hawser => {
                let setting = setting.ok_or(NoSetting)?;
                Box::new(hawser::Hawser::new(who, Arc::clone(setting)))
            }
        })
    }
}

/// Hawser's protocol needs tokens and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Hawser needs --key and --api")]
pub struct NoSetting;

/// Every prefix, every cut and every bit flip of what servers say, given to a fresh side of each protocol.
#[cfg(test)]
pub(crate) fn torture(make: impl Fn() -> Box<dyn Speech>, valid: &[u8]) {
    let hear = |bytes: &[u8], at: usize| {
        let mut speech = make();
        let mut heard = Heard::default();
        speech.opened(&mut heard);
        let at = at.min(bytes.len());
        speech.message(&bytes[..at], &mut heard);
        speech.message(&bytes[at..], &mut heard);
    };
    for at in 0..valid.len() {
        hear(valid, at);
        hear(&valid[..at], at / 2);
        for bit in 0..8 {
            let mut changed = valid.to_vec();
            changed[at] ^= 1 << bit;
            hear(&changed, at);
        }
        let mut all_ones = valid.to_vec();
        all_ones[at..].fill(0xff);
        hear(&all_ones, 0);
    }
}
