//! `hawser listen`: what arrives, for people or as JSON lines.

use crate::cli::{Connection, chat_of, open};
use clap::Args;
use hawser_client::conversation::{is_shown, merge};
use hawser_client::store::{Change, Written};
use hawser_client::{Client, Event};
use hawser_protocol::client::{PendingSend, Phase};
use hawser_protocol::ids::{ChatId, Seq};
use hawser_protocol::message::MessageRecord;
use hawser_protocol::pb::PresenceState;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    #[command(flatten)]
    connection: Connection,
    /// One JSON object per line. `chat` is the conversation; what came in a further lane of a group in relaxed order says
    /// in `lane` which: its `seq`, `prev_seq` and `ordinal`, and those of receipts, are the lane's.
    #[arg(long)]
    json: bool,
    /// Also print the messages that are in the local store already.
    #[arg(long)]
    history: bool,
    /// Only this chat: a user (`bob`) or a chat id (`g:...`).
    #[arg(long, value_name = "USER|CHAT")]
    chat: Option<String>,
    /// Mark what is printed as read.
    #[arg(long)]
    read: bool,
    /// Tell whether these users are online.
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    watch: Vec<String>,
    /// End after so many messages.
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// End after so many seconds.
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// A message that was stored.
pub(crate) fn sent_json(record: &MessageRecord) -> Value {
    let mut value = message_json(record);
    value["event"] = json!("sent");
    value
}

/// A message that was refused for good.
pub(crate) fn refused_json(send: &PendingSend) -> Value {
    let refusal = send.refused.as_ref();
    json!({
        "event": "refused",
        "chat": send.chat.as_str(),
        "client_msg_id": send.id.to_string(),
        "code": refusal.map(|r| r.code),
        "text": refusal.map(|r| r.text.as_str()),
    })
}

/// `chat` is what is written to; where it is a lane of a group that has this seq and ordinal, `lane` names it.
fn name_chat(value: &mut Value, chat: &ChatId) {
    value["chat"] = json!(chat.base().as_str());
    if chat.lane() > 0 {
        value["lane"] = json!(chat.as_str());
    }
}

fn message_json(record: &MessageRecord) -> Value {
    let mut value = json!({
        "event": "message",
        "seq": record.seq.0.to_string(),
        "prev_seq": record.prev_seq.0.to_string(),
        "ordinal": record.ordinal,
        "message_id": record.message_id.to_string(),
        "client_msg_id": record.client_msg_id.to_string(),
        "sender": record.sender.as_str(),
        "sender_device": record.sender_device.as_str(),
        "message_type": record.message_type.0,
        "send_ts_ms": record.send_ts_ms,
        "stored_ts_ms": record.stored_ts_ms,
    });
    name_chat(&mut value, &record.chat);
    match std::str::from_utf8(&record.body) {
        Ok(text) => value["body"] = json!(text),
        Err(_) => {
            use base64::Engine as _;
            let text = base64::engine::general_purpose::STANDARD.encode(&record.body);
            value["body_b64"] = json!(text);
        }
    }
    value
}

pub(crate) async fn run(args: ListenArgs) -> anyhow::Result<ExitCode> {
    let settings = args.connection.settings("listen")?;
    let chat = args
        .chat
        .as_deref()
        .map(|text| chat_of(text, &settings.user));
    let chat = chat.transpose()?;
    let (client, mut events) = open(settings)?;
    let mut printer = Printer {
        json: args.json,
        read: args.read,
        chat,
        left: args.count,
        client: client.clone(),
    };
    if args.history {
        printer.history().await?;
    }
    if !args.watch.is_empty() {
        client.watch(args.watch.clone(), Vec::new()).await?;
    }
    let end = async {
        match args.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let mut code = ExitCode::SUCCESS;
    while printer.left != Some(0) {
        let event = tokio::select! {
            event = events.recv() => event,
            () = &mut end => break,
            _ = tokio::signal::ctrl_c() => break,
        };
        let Some(event) = event else { break };
        if let Event::Phase(Phase::Refused { .. } | Phase::Displaced) = event {
            printer.event(&event).await?;
            code = ExitCode::FAILURE;
            break;
        }
        printer.event(&event).await?;
    }
    drop(printer);
    client.stop().await;
    Ok(code)
}

struct Printer {
    json: bool,
    read: bool,
    chat: Option<ChatId>,
    left: Option<usize>,
    client: Client,
}

impl Printer {
    async fn history(&mut self) -> anyhow::Result<()> {
        let store = self.client.store().clone();
        let chats = store.chats()?.into_iter().map(|(chat, _)| chat.base());
        for chat in chats.collect::<BTreeSet<_>>() {
            let lanes = store.lanes(&chat)?.into_iter();
            let lanes = lanes.map(|lane| store.messages(&lane, u64::MAX, usize::MAX));
            for record in merge(&lanes.collect::<Result<Vec<_>, _>>()?) {
                self.message(&record).await?;
            }
        }
        Ok(())
    }

    async fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Changed(written) => self.written(written).await,
            Event::Phase(phase) => {
                let (name, text) = phase_words(phase);
                self.line(&json!({"event": "phase", "phase": name, "text": text}), || {
                    format!("-- {name} {text}")
                })
            }
            Event::Lost(text) => self.line(&json!({"event": "lost", "text": text}), || {
                format!("-- connection lost: {text}")
            }),
            Event::Problem(text) => self.line(&json!({"event": "problem", "text": text}), || {
                format!("-- problem: {text}")
            }),
            Event::Typing(update) => self.line(
                &json!({"event": "typing", "chat": update.chat, "user": update.user, "stopped": update.stopped}),
                || format!("-- {} types in {}", update.user, update.chat),
            ),
            Event::Presence(update) => {
                let state = match update.state() {
                    PresenceState::PresenceOnline => "online",
                    PresenceState::PresenceOffline => "offline",
                    PresenceState::PresenceUnknown => "unknown",
                };
                self.line(
                    &json!({"event": "presence", "user": update.user, "state": state, "last_seen_ms": update.last_seen_ms}),
                    || format!("-- {} is {state}", update.user),
                )
            }
            Event::Queued(_) | Event::History(_) => Ok(()),
        }
    }

    async fn written(&mut self, written: &Written) -> anyhow::Result<()> {
        for record in &written.fresh {
            if self.left == Some(0) {
                break;
            }
            self.message(record).await?;
        }
        for (chat, user, mark) in &written.marks {
            let mut value = json!({
                "event": "receipt",
                "user": user.as_str(),
                "delivered_seq": mark.delivered.to_string(),
                "read_seq": mark.read.to_string(),
            });
            name_chat(&mut value, chat);
            self.line(&value, || {
                format!(
                    "-- {user} has {chat} up to {} (read {})",
                    mark.delivered, mark.read
                )
            })?;
        }
        Ok(())
    }

    async fn message(&mut self, record: &MessageRecord) -> anyhow::Result<()> {
        let chat = record.chat.base();
        if !is_shown(record) || self.chat.as_ref().is_some_and(|wanted| *wanted != chat) {
            return Ok(());
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        self.line(&message_json(record), || {
            let text = match Change::of(record) {
                Some(change) => {
                    format!(
                        "({} {} {})",
                        record.sender,
                        change.op,
                        change.users.join(", ")
                    )
                }
                None => String::from_utf8_lossy(&record.body).into_owned(),
            };
            format!("[{chat}] {}: {text}", record.sender)
        })?;
        if self.read {
            self.client
                .read(record.chat.clone(), Seq(record.seq.0))
                .await?;
        }
        Ok(())
    }

    fn line(&self, value: &Value, plain: impl FnOnce() -> String) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{value}")?;
        } else {
            writeln!(out, "{}", crate::tui::text::clean(&plain()))?;
        }
        Ok(out.flush()?)
    }
}

/// A phase in words.
pub(crate) fn phase_words(phase: &Phase) -> (&'static str, String) {
    match phase {
        Phase::Stopped => ("stopped", String::new()),
        Phase::Refused { code, text } => ("refused", format!("{text} ({code})")),
        Phase::Displaced => ("displaced", "the same device is connected elsewhere".into()),
        Phase::Connecting => ("connecting", String::new()),
        Phase::Waiting { .. } => ("waiting", String::new()),
        Phase::Syncing => ("syncing", String::new()),
        Phase::CatchingUp => ("catching-up", String::new()),
        Phase::Live => ("live", String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_conversation_and_the_lane_where_there_is_one() {
        let named = |chat: &str| {
            let mut value = json!({});
            name_chat(&mut value, &ChatId::new(chat).expect("a chat"));
            value
        };
        assert_eq!(named("dm:alice:bob"), json!({"chat": "dm:alice:bob"}));
        assert_eq!(named("g:x"), json!({"chat": "g:x"}));
        assert_eq!(named("g:x#7"), json!({"chat": "g:x", "lane": "g:x#7"}));
    }
}
