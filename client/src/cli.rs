//! The command line of `hawser`.

use crate::{listen, send, tui};
use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use hawser_client::api::{Api, TokenFacts};
use hawser_client::transport::Trust;
use hawser_client::{Client, Event, Settings, Tokens};
use hawser_protocol::ids::{ChatId, DeviceId, UserId};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::sync::mpsc;

/// Chat from a terminal, on Hawser.
///
/// Everything received is kept in a directory of this (server, user, device); what is written while
/// there is no connection waits there and is sent later, once. Connections are made and resumed by
/// themselves.
#[derive(Debug, Parser)]
#[command(name = "hawser", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples (a node started with `hawser-gateway --embedded` has the demo users alice, bob, carol, dave):
  hawser chat --user alice
  hawser chat --user bob --url wss://127.0.0.1:8443/v1/ws --fingerprint 3A:91:...
      over TLS, trusting the self-made certificate whose SHA-256 the node prints
  hawser send --user alice --to bob 'lunch?'
      exit code 0: the message is stored (sent); 1: refused; 3: not answered yet, it stays queued
  hawser listen --user bob --json
      one JSON object per line: messages, receipts, presence, phases of the connection
  hawser chat --user alice --token-file token.jwt
      with a token of your own identity provider (claims `sub` = user, `dev` = device)";

#[derive(Debug, Subcommand)]
enum Command {
    /// Chat: conversations, ticks, typing, presence. Type /help inside.
    Chat(Connection),
    /// Send one message, or one per line of standard input, and wait until it is stored.
    Send(send::SendArgs),
    /// Print what arrives, until interrupted.
    Listen(listen::ListenArgs),
    /// Log in to the demo and print the token (valid for this user and device).
    Login(Connection),
}

/// Who connects where.
#[derive(Debug, Args, Clone)]
pub(crate) struct Connection {
    /// User to be; with --token the token's.
    #[arg(long, short, env = "HAWSER_USER", value_name = "USER")]
    user: Option<String>,
    /// WebSocket URL of a node.
    #[arg(
        long,
        env = "HAWSER_URL",
        default_value = "ws://127.0.0.1:8080/v1/ws",
        value_name = "URL"
    )]
    url: String,
    /// Name of this device; unique among the user's, the same at every start. Each command has its
    /// own default (`terminal`, `send`, `listen`): one device is one running program.
    #[arg(long, env = "HAWSER_DEVICE", value_name = "NAME")]
    device: Option<String>,
    /// Token to connect with. Without one, the demo login of the node is used.
    #[arg(long, env = "HAWSER_TOKEN", value_name = "JWT", hide_env_values = true)]
    token: Option<String>,
    /// File with the token; read again whenever a fresh one is needed.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Trust exactly the certificate with this SHA-256 (as the node prints it), nothing else.
    #[arg(long, env = "HAWSER_FINGERPRINT", value_name = "HEX")]
    fingerprint: Option<String>,
    /// Directory for local stores [default: $XDG_DATA_HOME/hawser or ~/.local/share/hawser].
    #[arg(long, env = "HAWSER_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Ping interval to ask for, seconds (5 to 300) [default: the server's, 30].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(5..=300))]
    heartbeat: Option<u32>,
}

impl Cli {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Chat(connection) => tui::run(connection.settings("terminal")?).await,
            Command::Send(args) => send::run(args).await,
            Command::Listen(args) => listen::run(args).await,
            Command::Login(connection) => login(connection).await,
        }
    }
}

impl Connection {
    /// What the library needs. `device`: when none is named.
    pub(crate) fn settings(&self, device: &str) -> anyhow::Result<Settings> {
        let tokens = match (&self.token, &self.token_file) {
            (Some(token), _) => Tokens::Fixed(token.trim().to_owned()),
            (None, Some(path)) => Tokens::File(path.clone()),
            (None, None) => Tokens::Demo,
        };
        let facts = self.facts(&tokens)?;
        let user = self.user.clone().or(facts.as_ref().map(|f| f.user.clone()));
        let user = user.context("who? give --user (or --token)")?;
        let user = UserId::new(&user).with_context(|| format!("--user {user}"))?;
        let told = facts.map(|f| f.device).filter(|name| !name.is_empty());
        let device = self.device.clone().or(told).unwrap_or(device.to_owned());
        let device = DeviceId::new(&device).with_context(|| format!("--device {device}"))?;
        let trust = match &self.fingerprint {
            None => Trust::System,
            Some(text) => Trust::fingerprint(text)
                .context("--fingerprint: 32 bytes in hexadecimal, with or without colons")?,
        };
        if self.fingerprint.is_some() && !self.url.starts_with("wss://") {
            bail!(
                "--fingerprint needs a wss:// URL: there is no certificate on {}",
                self.url
            );
        }
        let dir = self.dir(&user, &device)?;
        Ok(Settings {
            url: self.url.clone(),
            user,
            device,
            trust,
            tokens,
            dir,
            heartbeat_ms: self.heartbeat.unwrap_or(0) * 1_000,
        })
    }

    /// What the token says, where there is one.
    fn facts(&self, tokens: &Tokens) -> anyhow::Result<Option<TokenFacts>> {
        let token = match tokens {
            Tokens::Demo => return Ok(None),
            Tokens::Fixed(token) => token.clone(),
            Tokens::File(path) => std::fs::read_to_string(path)
                .with_context(|| format!("--token-file {}", path.display()))?,
        };
        let facts = TokenFacts::of(&token).context("the token is no JWT")?;
        Ok(Some(facts))
    }

    fn dir(&self, user: &UserId, device: &DeviceId) -> anyhow::Result<PathBuf> {
        let root = match &self.data_dir {
            Some(dir) => dir.clone(),
            None => data_home().context("no home directory: give --data-dir")?,
        };
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '_'
            }
        };
        let host = self.url.split("://").nth(1).unwrap_or(&self.url);
        let host = host.split('/').next().unwrap_or(host);
        let host: String = host.chars().map(plain).collect();
        Ok(root.join(host).join(format!("{user}+{device}")))
    }
}

fn data_home() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    if let Some(dir) = set("XDG_DATA_HOME") {
        return Some(PathBuf::from(dir).join("hawser"));
    }
    set("HOME").map(|home| PathBuf::from(home).join(".local/share/hawser"))
}

/// Opens the client of a command.
pub(crate) fn open(settings: Settings) -> anyhow::Result<(Client, mpsc::Receiver<Event>)> {
    Ok(Client::open(settings)?)
}

/// `bob` or `@bob` is the 1:1 chat with bob, `g:...` and `dm:...` are chats; a lane of a group is the group.
pub(crate) fn chat_of(text: &str, me: &UserId) -> anyhow::Result<ChatId> {
    let text = text.strip_prefix('@').unwrap_or(text);
    if text.starts_with("g:") || text.starts_with("dm:") {
        let chat = ChatId::new(text).with_context(|| format!("chat {text}"))?;
        return Ok(chat.base());
    }
    let other = UserId::new(text).with_context(|| format!("user {text}"))?;
    Ok(ChatId::dm(me, &other))
}

async fn login(connection: Connection) -> anyhow::Result<ExitCode> {
    let settings = connection.settings("terminal")?;
    let api = Api::beside(&settings.url, settings.trust.clone())?;
    let token = api.demo_login(&settings.user, &settings.device).await?;
    println!("{token}");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn chats_are_named_by_user_or_id() {
        let me = UserId::new("carol").expect("id");
        let chat = |text| chat_of(text, &me).map(|chat| chat.to_string()).ok();
        assert_eq!(chat("bob").as_deref(), Some("dm:bob:carol"));
        assert_eq!(chat("@dave").as_deref(), Some("dm:carol:dave"));
        assert_eq!(chat("g:team").as_deref(), Some("g:team"));
        assert_eq!(chat("g:team#3").as_deref(), Some("g:team"));
        assert_eq!(chat("g:team#03"), None);
        assert_eq!(chat("no body"), None);
    }

    #[test]
    fn a_fingerprint_without_tls_is_refused() {
        let hex = "ab".repeat(32);
        let args = ["hawser", "login", "--user", "a", "--fingerprint", &hex];
        let Command::Login(connection) = Cli::parse_from(args).command else {
            panic!("login");
        };
        let error = connection.settings("x").expect_err("plain");
        assert!(error.to_string().contains("wss://"), "{error}");
    }
}
