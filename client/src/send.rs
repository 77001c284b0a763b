//! `hawser send`: one message, or one per line, and its answer.

use crate::cli::{Connection, chat_of, open};
use clap::Args;
use hawser_client::{Client, Event, SendError};
use hawser_protocol::client::{PendingSend, Phase};
use hawser_protocol::ids::{ChatId, ClientMsgId};
use hawser_protocol::message::MessageType;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Lines that are sent before answers are awaited.
const UNANSWERED_MAX: usize = 256;
/// Lines read ahead.
const LINES_WAITING_MAX: usize = 64;
/// Exit code: some message has no answer yet.
const NOT_ANSWERED: u8 = 3;

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    #[command(flatten)]
    connection: Connection,
    /// To whom: a user (`bob`), or a chat (`g:...`).
    #[arg(long, short, value_name = "USER|CHAT")]
    to: String,
    /// The message; `-`: each line of standard input is one.
    #[arg(required = true, value_name = "TEXT")]
    text: Vec<String>,
    /// Wait so long for answers, seconds; what has none stays queued for the next start.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    wait: u64,
    /// Print one JSON object per answer.
    #[arg(long)]
    json: bool,
}

/// What was sent and what became of it.
struct Sending {
    client: Client,
    events: mpsc::Receiver<Event>,
    waiting: BTreeMap<ClientMsgId, PendingSend>,
    refused: usize,
    problem: String,
    json: bool,
}

pub(crate) async fn run(args: SendArgs) -> anyhow::Result<ExitCode> {
    let settings = args.connection.settings("send")?;
    let chat = chat_of(&args.to, &settings.user)?;
    let (client, events) = open(settings)?;
    let mut sending = Sending {
        client,
        events,
        waiting: BTreeMap::new(),
        refused: 0,
        problem: String::new(),
        json: args.json,
    };
    // What an earlier start left is sent with this one, and waited for too.
    for old in sending.client.store().unsent()? {
        if old.refused.is_none() {
            sending.waiting.insert(old.id, old);
        }
    }
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    if args.text == ["-"] {
        let mut lines = read_lines();
        while let Some(line) = lines.recv().await {
            sending.send(&chat, line?).await?;
            while sending.waiting.len() >= UNANSWERED_MAX && sending.step(deadline).await {}
        }
    } else {
        sending.send(&chat, args.text.join(" ")).await?;
    }
    while !sending.waiting.is_empty() && sending.step(deadline).await {}
    sending.end().await
}

/// A thread that reads standard input: it blocks, and ends with the program.
fn read_lines() -> mpsc::Receiver<std::io::Result<String>> {
    let (lines, inbox) = mpsc::channel(LINES_WAITING_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    inbox
}

impl Sending {
    async fn send(&mut self, chat: &ChatId, text: String) -> Result<(), SendError> {
        let sent = self
            .client
            .send(chat.clone(), MessageType::TEXT, text.into())
            .await?;
        self.waiting.insert(sent.id, sent);
        Ok(())
    }

    /// Takes one event; false when there is no use in waiting longer.
    async fn step(&mut self, deadline: Instant) -> bool {
        let event = match tokio::time::timeout_at(deadline, self.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) | Err(_) => return false,
        };
        match event {
            Event::Changed(written) => {
                for record in &written.fresh {
                    let mine = record.sender == *self.client.user()
                        && record.sender_device == *self.client.device();
                    if mine && self.waiting.remove(&record.client_msg_id).is_some() {
                        self.sent(record);
                    }
                }
                for send in &written.unsent {
                    if send.refused.is_some() && self.waiting.remove(&send.id).is_some() {
                        self.refused(send);
                    } else if send.refused.is_none() {
                        self.renewed(send);
                    }
                }
                // Answered before this program started, by another device of ours.
                for id in &written.answered {
                    self.waiting.remove(id);
                }
                true
            }
            Event::Phase(Phase::Refused { code, text }) => {
                self.problem = format!("the server refuses this device: {text} ({code})");
                false
            }
            Event::Phase(Phase::Displaced) => {
                self.problem = "the same device is connected elsewhere".into();
                false
            }
            Event::Lost(text) | Event::Problem(text) => {
                self.problem = text;
                true
            }
            _ => true,
        }
    }

    /// A message that was too old got a new id.
    fn renewed(&mut self, send: &PendingSend) {
        let old = self.waiting.values().find(|s| s.number == send.number);
        if let Some(id) = old.map(|s| s.id).filter(|id| *id != send.id) {
            self.waiting.remove(&id);
            self.waiting.insert(send.id, send.clone());
        }
    }

    fn sent(&self, record: &hawser_protocol::message::MessageRecord) {
        if self.json {
            println!("{}", crate::listen::sent_json(record));
        } else {
            println!("sent {} (seq {})", record.message_id, record.seq.0);
        }
    }

    fn refused(&mut self, send: &PendingSend) {
        self.refused += 1;
        let Some(refusal) = &send.refused else { return };
        if self.json {
            println!("{}", crate::listen::refused_json(send));
        } else {
            eprintln!("refused: {} (code {})", refusal.text, refusal.code);
        }
    }

    async fn end(self) -> anyhow::Result<ExitCode> {
        let left = self.waiting.len();
        self.client.stop().await;
        if left > 0 {
            let why = if self.problem.is_empty() {
                String::new()
            } else {
                format!(": {}", self.problem)
            };
            eprintln!("{left} not answered yet, kept for the next start{why}");
            return Ok(ExitCode::from(NOT_ANSWERED));
        }
        Ok(if self.refused > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}
