//! A gateway in a process of its own, that can be killed and started again on the same data.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A node is up within this, on a machine that does much else.
const READY: Duration = Duration::from_secs(120);

pub(crate) struct Node {
    program: PathBuf,
    dir: tempfile::TempDir,
    ports: [u16; 3],
    child: Option<Child>,
    /// As the banner says it.
    pub(crate) fingerprint: String,
}

impl Node {
    /// `None`: there is no gateway to run, and that has been said.
    pub(crate) fn start() -> Option<Self> {
        let program = program()?;
        let mut node = Self {
            program,
            dir: tempfile::tempdir().expect("a directory"),
            ports: free_ports(),
            child: None,
            fingerprint: String::new(),
        };
        node.up();
        Some(node)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/v1/ws", self.ports[0])
    }

    pub(crate) fn tls_url(&self) -> String {
        format!("wss://127.0.0.1:{}/v1/ws", self.ports[1])
    }

    /// A directory for the local stores of clients.
    pub(crate) fn clients(&self) -> PathBuf {
        self.dir.path().join("clients")
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    pub(crate) fn up(&mut self) {
        let at = |port: u16| format!("127.0.0.1:{port}");
        let [http, wss, admin] = self.ports;
        let mut child = Command::new(&self.program)
            .arg("--embedded")
            .args([
                "--listen",
                &at(http),
                "--wss",
                &at(wss),
                "--admin",
                &at(admin),
            ])
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the gateway starts");
        let lines = read_lines(&mut child);
        self.child = Some(child);
        let end = Instant::now() + READY;
        while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if let Some((_, hex)) = line.split_once("SHA-256 ") {
                self.fingerprint = hex.trim().to_owned();
            }
            if line.contains("Token ") {
                break;
            }
        }
        while std::net::TcpStream::connect(("127.0.0.1", http)).is_err() {
            assert!(Instant::now() < end, "the gateway did not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("HAWSER_GATEWAY") {
        let path = PathBuf::from(path);
        assert!(
            path.is_file(),
            "HAWSER_GATEWAY: there is no {}",
            path.display()
        );
        return Some(path);
    }
    let beside = Path::new(env!("CARGO_BIN_EXE_hawser")).with_file_name("hawser-gateway");
    if beside.is_file() {
        return Some(beside);
    }
    // Not through the macros: the harness would hide it from a passing test.
    let _ = std::io::stderr()
        .write_all(b"SKIPPED: no gateway; cargo build -p hawser-gateway, or set HAWSER_GATEWAY\n");
    None
}

fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

/// What the gateway prints; read to the end, so that it never waits for us.
fn read_lines(child: &mut Child) -> mpsc::Receiver<String> {
    let (lines, inbox) = mpsc::channel();
    let out = child.stdout.take().expect("piped");
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
    inbox
}
