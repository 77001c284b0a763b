//! A node in this process, with its engines in a directory of its own, and clients for it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod client;
pub mod cluster;
pub mod groups;

use client::{Client, Resume, Target};
use hawser_fanout::auth::{Issuer, Verifier};
use hawser_gateway::backing::{self, Backing};
use hawser_gateway::certs::{self, Certificates, Source};
use hawser_gateway::config::Config;
use hawser_gateway::config::node::node_config;
use hawser_gateway::counters::Counter;
use hawser_gateway::node::config::{NodeConfig, Services};
use hawser_gateway::node::{self, NodeHandle};
use hawser_protocol::ids::{ChatId, DeviceId, UserId};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a token of the tests is good for, seconds.
const TOKEN_S: u64 = 3_600;

/// A running node.
pub struct Node {
    pub handle: Option<NodeHandle>,
    backing: Option<Backing>,
    pub issuer: Issuer,
    pub plain: Target,
    pub tls: Target,
    pub config: Config,
    server_tls: Arc<rustls::ServerConfig>,
    /// Outlives the node.
    _dir: Arc<TempDir>,
}

impl Node {
    /// One core, default settings.
    pub fn start() -> Self {
        Self::with(|_| (), |_| ())
    }

    /// With changed settings.
    pub fn with(change: impl FnOnce(&mut Config), tune: impl FnOnce(&mut NodeConfig)) -> Self {
        let dir = Arc::new(TempDir::new().expect("a directory"));
        Self::on(dir, change, tune)
    }

    fn on(
        dir: Arc<TempDir>,
        change: impl FnOnce(&mut Config),
        tune: impl FnOnce(&mut NodeConfig),
    ) -> Self {
        let mut config = Config::default();
        config.node.data_dir = dir.path().to_str().expect("utf-8").to_owned();
        config.node.cores = 1;
        config.node.max_sessions = 2_000;
        config.listen.http = vec!["127.0.0.1:0".to_owned()];
        config.listen.wss = vec!["127.0.0.1:0".to_owned()];
        config.listen.admin = String::new();
        config.listen.echo = true;
        config.auth.demo = true;
        config.log.durability = "os".to_owned();
        config.log.disk_reserve_mib = 1;
        change(&mut config);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let source = Source::SelfMade {
            dir: backing::keys_dir(&config),
            names: config.tls.names.clone(),
        };
        let certificates = Certificates::open(source, provider.clone()).expect("a certificate");
        let tls = certs::server_config(certificates.clone(), provider.clone(), false).expect("TLS");
        let mut backing = Backing::open(&config).expect("engines");
        let issuer = backing::issuer(&config).expect("a key");
        let mut settings = node_config(&config, &tls, backing.resume_key, 4_096).expect("sound");
        settings.pin = false;
        tune(&mut settings);
        let handle = node::start(settings, backing.services.clone(), backing.verifier.clone())
            .expect("a node");
        backing
            .follow_revocations(handle.rechecker())
            .expect("a thread");
        let server_tls = tls;
        let trusted = client::trusting(&certificates.self_made().expect("self-made"), provider);
        let plain = Target {
            addr: handle.addrs()[0],
            tls: None,
        };
        let tls = Target {
            addr: handle.addrs()[1],
            tls: Some(trusted),
        };
        Self {
            handle: Some(handle),
            backing: Some(backing),
            issuer,
            plain,
            tls,
            config,
            server_tls,
            _dir: dir,
        }
    }

    /// Another node of the same cluster: its own listeners, the same engines. Ends when its handle is joined.
    pub fn beside(&self, tune: impl FnOnce(&mut NodeConfig)) -> (NodeHandle, Target) {
        self.beside_with(|_| (), tune)
    }

    /// The same, with other adapters.
    pub fn beside_with(
        &self,
        change: impl FnOnce(&mut Services),
        tune: impl FnOnce(&mut NodeConfig),
    ) -> (NodeHandle, Target) {
        self.beside_judging(self.backing().verifier.clone(), change, tune)
    }

    /// The same, with a judge of tokens of its own.
    pub fn beside_judging(
        &self,
        verifier: Arc<Verifier>,
        change: impl FnOnce(&mut Services),
        tune: impl FnOnce(&mut NodeConfig),
    ) -> (NodeHandle, Target) {
        let mut services = self.backing().services.clone();
        change(&mut services);
        let backing = self.backing();
        let settings = node_config(&self.config, &self.server_tls, backing.resume_key, 4_096);
        let mut settings = settings.expect("sound");
        settings.pin = false;
        tune(&mut settings);
        let handle = node::start(settings, services, verifier);
        let handle = handle.expect("a node");
        let plain = Target {
            addr: handle.addrs()[0],
            tls: None,
        };
        (handle, plain)
    }

    /// Stops it in order and starts another on the same data.
    pub fn restart(mut self) -> Self {
        self.stop();
        let dir = self._dir.clone();
        let config = self.config.clone();
        drop(self);
        Self::on(dir, |c| *c = config, |_| ())
    }

    pub fn stop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.join().expect("a clean end");
        }
        if let Some(backing) = self.backing.take() {
            backing.close();
        }
    }

    pub fn handle(&self) -> &NodeHandle {
        self.handle.as_ref().expect("it runs")
    }

    pub fn backing(&self) -> &Backing {
        self.backing.as_ref().expect("it runs")
    }

    pub fn token(&self, user: &str, device: &str) -> String {
        self.token_for(user, device, TOKEN_S)
    }

    pub fn token_for(&self, user: &str, device: &str, seconds: u64) -> String {
        let user = UserId::new(user).expect("an id");
        let device = DeviceId::new(device).expect("an id");
        let now_ms = client::now_ms();
        self.issuer
            .issue(&user, Some(&device), seconds, false, now_ms)
    }

    /// A judge of the issuer's tokens that hears of no revocation by itself.
    pub fn judge(&self) -> Arc<Verifier> {
        let settings = self.issuer.auth_settings(None);
        Arc::new(Verifier::new(settings).expect("sound"))
    }

    /// A request to the API by an administrator; the status. The body is JSON, or empty.
    pub fn administer(&self, method: &str, path: &str, body: &str) -> u16 {
        let (user, device) = (UserId::new("root"), DeviceId::new("cli"));
        let (user, device) = (user.expect("an id"), device.expect("an id"));
        let token = self
            .issuer
            .issue(&user, Some(&device), TOKEN_S, true, client::now_ms());
        let mut stream = self.plain.open();
        let kind = "Content-Type: application/json";
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("it is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).expect("a status line");
        status.parse().expect("a number")
    }

    /// A live session of a device without a past, over plain WebSocket.
    pub fn live(&self, user: &str, device: &str) -> Client {
        self.live_at(&self.plain, user, device)
    }

    pub fn live_at(&self, target: &Target, user: &str, device: &str) -> Client {
        let mut client = self.fresh(target, user, device);
        client.adopt();
        client.caught_up();
        client
    }

    /// A session that has not adopted the head.
    pub fn fresh(&self, target: &Target, user: &str, device: &str) -> Client {
        let token = self.token(user, device);
        Client::connect(target, &token, device, Resume::default())
    }

    pub fn resumed(&self, user: &str, device: &str, resume: Resume) -> Client {
        let token = self.token(user, device);
        Client::connect(&self.plain, &token, device, resume)
    }

    /// Waits for a counter to reach at least `least`.
    pub fn counted(&self, counter: Counter, least: u64) {
        let deadline = Instant::now() + client::PATIENCE;
        while self.handle().counters().total(counter) < least {
            assert!(Instant::now() < deadline, "{counter:?} stays below {least}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// The 1:1 chat of two users.
pub fn dm(a: &str, b: &str) -> ChatId {
    let user = |name| UserId::new(name).expect("an id");
    ChatId::dm(&user(a), &user(b))
}
