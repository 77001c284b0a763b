//! What is typed with a slash, and sending.

use super::app::App;
use crate::cli::chat_of;
use anyhow::{Context, bail};
use hawser_protocol::ids::{ChatId, UserId};
use hawser_protocol::message::MessageType;

/// The help: what to type, and what it does.
pub(crate) const HELP: &[(&str, &str)] = &[
    (
        "Enter",
        "send the line (two slashes send a line that begins with one)",
    ),
    ("Up / Down, Ctrl-P / Ctrl-N", "conversation above / below"),
    ("Tab", "next conversation with unread messages"),
    ("PgUp / PgDn", "scroll; older messages are fetched"),
    ("Alt-Up / Alt-Down", "lines typed before"),
    (
        "Ctrl-C, /quit",
        "leave; unsent messages stay and are sent at the next start",
    ),
    ("/dm USER", "open the conversation with a user"),
    ("/group NAME USER...", "make a group"),
    (
        "/add USER...  /remove USER",
        "members of the open group (admins)",
    ),
    ("/admin USER  /unadmin USER", "make an admin, or no longer"),
    ("/rename NAME  /leave", "the open group"),
    ("/members  /users", "who is in it; who there is (demo)"),
    (
        "/retry  /discard",
        "send refused messages of this conversation anew; drop them",
    ),
    ("/reconnect", "connect now"),
    (
        "… ○ ✓ ✓✓ ✓✓ (blue)",
        "waits here, on the log, sent, delivered, read",
    ),
];

impl App {
    /// What was typed: a command or a message.
    pub(crate) async fn submit(&mut self) -> anyhow::Result<()> {
        let line = self.input.take();
        let line = line.trim();
        if line.is_empty() {
            return Ok(());
        }
        let result = match line.strip_prefix('/') {
            Some(rest) if rest.starts_with('/') => self.say(rest).await,
            Some(command) => self.command(command).await,
            None => self.say(line).await,
        };
        if let Err(error) = result {
            self.note(format!("{error:#}"));
        }
        Ok(())
    }

    async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let chat = self
            .open_id()
            .cloned()
            .context("open a conversation first: /dm USER")?;
        if self.item().is_some_and(|item| item.row.gone) {
            bail!("you are no longer a member of this group");
        }
        let body = text.to_owned().into();
        self.client.send(chat, MessageType::TEXT, body).await?;
        self.scroll = 0;
        Ok(())
    }

    async fn command(&mut self, line: &str) -> anyhow::Result<()> {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap_or_default();
        let args: Vec<String> = words
            .map(|w| w.trim_start_matches('@').to_owned())
            .collect();
        match (command, args.as_slice()) {
            ("help" | "h" | "?", _) => self.help = !self.help,
            ("quit" | "q" | "exit", _) => self.quit = true,
            ("dm" | "open", [user]) => {
                let chat = chat_of(user, self.client.user())?;
                self.show(chat).await?;
            }
            ("group", [name, users @ ..]) if !users.is_empty() => self.group(name, users).await?,
            ("add", users) if !users.is_empty() => {
                let (token, group) = self.group_call().await?;
                self.client.api().add(&token, &group, users).await?;
                self.note("added");
            }
            ("remove", [user]) => {
                let (token, group) = self.group_call().await?;
                let user = UserId::new(user)?;
                self.client.api().remove(&token, &group, &user).await?;
                self.note("removed");
            }
            ("admin" | "unadmin", [user]) => {
                let (token, group) = self.group_call().await?;
                let user = UserId::new(user)?;
                let admin = command == "admin";
                self.client
                    .api()
                    .set_admin(&token, &group, &user, admin)
                    .await?;
                self.note("done");
            }
            ("rename", [_, ..]) => {
                let (token, group) = self.group_call().await?;
                let name = line.trim_start_matches("rename").trim();
                self.client.api().rename(&token, &group, name).await?;
                self.note("renamed");
            }
            ("leave", []) => {
                let (token, group) = self.group_call().await?;
                self.client.api().leave(&token, &group).await?;
                self.note("left");
            }
            ("members", []) => self.members(),
            ("users", []) => self.users().await?,
            ("retry", []) => self.retry().await?,
            ("discard", []) => self.discard().await?,
            ("reconnect", []) => {
                self.client.start().await?;
                self.client.nudge().await?;
            }
            _ => bail!("no such command (or not so): /{line}   /help lists them"),
        }
        Ok(())
    }

    async fn group(&mut self, name: &str, users: &[String]) -> anyhow::Result<()> {
        let token = self.client.token().await?;
        let chat = self.client.api().create_group(&token, name, users).await?;
        self.client.refresh_chats().await?;
        self.show(chat).await
    }

    async fn group_call(&self) -> anyhow::Result<(String, ChatId)> {
        let group = self.open_id().cloned().filter(ChatId::is_group);
        let group = group.context("open a group first")?;
        Ok((self.client.token().await?, group))
    }

    fn members(&mut self) {
        let Some(item) = self.item() else { return };
        let name = |m: &hawser_client::store::Member| {
            let star = if m.admin { "*" } else { "" };
            format!("{}{star}", m.user)
        };
        let names: Vec<String> = item.row.members.iter().map(name).collect();
        let text = match names.is_empty() {
            true => item.id.to_string(),
            false => format!("{} (* admin)", names.join(", ")),
        };
        self.note(text);
    }

    async fn users(&mut self) -> anyhow::Result<()> {
        let people = self.client.api().demo_users().await?;
        let list: Vec<String> = people
            .iter()
            .map(|p| format!("{} ({})", p.user, p.name))
            .collect();
        self.names = people.into_iter().map(|p| (p.user, p.name)).collect();
        self.note(list.join(", "));
        Ok(())
    }

    /// Refused messages of this conversation, written anew.
    async fn retry(&mut self) -> anyhow::Result<()> {
        for send in self.take_refused() {
            self.client.discard(send.id).await?;
            self.client
                .send(send.chat, send.message_type, send.body)
                .await?;
        }
        Ok(())
    }

    async fn discard(&mut self) -> anyhow::Result<()> {
        for send in self.take_refused() {
            self.client.discard(send.id).await?;
        }
        Ok(())
    }

    fn take_refused(&self) -> Vec<hawser_protocol::client::PendingSend> {
        let here = |send: &&hawser_protocol::client::PendingSend| {
            send.refused.is_some() && Some(&send.chat) == self.open_id()
        };
        self.unsent.iter().filter(here).cloned().collect()
    }
}
