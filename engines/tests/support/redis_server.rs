//! A Redis of the test's own, on a free port, and questions to one as `redis-cli` asks them.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process. Killed with this value.
pub(crate) struct RedisServer {
    pub(crate) address: SocketAddr,
    arguments: Vec<String>,
    child: Child,
}

impl RedisServer {
    /// Starts one without a disk; `None`, and loudly, where there is no `redis-server`.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let Some(child) = spawn(address, &arguments) else {
            println!(
                "SKIPPED: there is no redis-server in the path (apt-get install redis-server)"
            );
            return None;
        };
        let server = Self {
            address,
            arguments,
            child,
        };
        server.wait();
        Some(server)
    }

    pub(crate) fn place(&self) -> String {
        self.address.to_string()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, with nothing in it.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.address, &self.arguments).unwrap();
        self.wait();
    }

    /// SIGSTOP, or SIGCONT.
    pub(crate) fn stop(&self, stopped: bool) {
        let signal = if stopped { "-STOP" } else { "-CONT" };
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(done.success());
    }

    /// One command, one answer, as text: `(nil)` for nothing, `-ERR ..` for an error.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        ask(self.address, words)
    }

    fn wait(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(self.address).is_err() {
            assert!(Instant::now() < until, "redis-server does not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(address: SocketAddr, arguments: &[String]) -> Option<Child> {
    let port = address.port().to_string();
    let mut command = Command::new("redis-server");
    command
        .args([
            "--bind",
            "127.0.0.1",
            "--port",
            &port,
            "--save",
            "",
            "--appendonly",
            "no",
            // A replica is sent a file.
            "--dir",
            env!("CARGO_TARGET_TMPDIR"),
        ])
        .args(arguments)
        .stdout(Stdio::null());
    command.spawn().ok()
}

/// As `redis-cli`: one command to any server without TLS and password.
pub(crate) fn ask(address: SocketAddr, words: &[&str]) -> String {
    let mut link = TcpStream::connect(address).unwrap();
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command += &format!("${}\r\n{word}\r\n", word.len());
    }
    link.write_all(command.as_bytes()).unwrap();
    let mut reader = BufReader::new(link);
    answer(&mut reader)
}

fn answer(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let line = line.trim_end();
    let (kind, rest) = line.split_at(1);
    match kind {
        "$" if rest == "-1" => "(nil)".to_owned(),
        "$" => {
            let mut text = vec![0; rest.parse::<usize>().unwrap() + 2];
            reader.read_exact(&mut text).unwrap();
            text.truncate(text.len() - 2);
            String::from_utf8(text).unwrap()
        }
        "*" => {
            let count: usize = rest.parse().unwrap();
            let all: Vec<String> = (0..count).map(|_| answer(reader)).collect();
            all.join(" ")
        }
        "-" => line.to_owned(),
        _ => rest.to_owned(),
    }
}
