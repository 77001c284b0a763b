//! A gateway and workers as programs, for tests that need them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A step that needs longer than this will not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that says where it listens, killed when dropped.
pub struct Running {
    pub child: Child,
    /// What it said until then.
    pub banner: String,
    _folder: Option<tempfile::TempDir>,
}

impl Running {
    /// Starts it and reads its standard output up to a line that begins with `last`.
    fn start(mut command: Command, last: &str, folder: Option<tempfile::TempDir>) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let stdout = child.stdout.take().expect("piped");
        let mut banner = String::new();
        let mut lines = BufReader::new(stdout).lines();
        for line in lines.by_ref() {
            let line = line.expect("text");
            banner.push_str(&line);
            banner.push('\n');
            if line.starts_with(last) {
                break;
            }
        }
        // Whatever more it says is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            banner,
            _folder: folder,
        }
    }

    /// The word behind these words of its banner.
    pub fn word(&self, before: &str, after: char) -> String {
        let text = self.banner.split_once(before).expect("in the banner").1;
        let end = text.find([after, '\n']).unwrap_or(text.len());
        text[..end].trim().to_owned()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill").success());
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The gateway's program: $HAWSER_GATEWAY, or what was built beside the load generator; without either the test is skipped.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("HAWSER_GATEWAY").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_BIN_EXE_hawser-loadgen")).with_file_name("hawser-gateway");
    let found = named.unwrap_or(beside);
    if found.is_file() {
        return Some(found);
    }
    println!(
        "SKIPPED: no gateway at {} (cargo build -p hawser-gateway, or set HAWSER_GATEWAY)",
        found.display()
    );
    None
}

/// An embedded gateway.
pub struct Gateway {
    _running: Running,
    pub ws: String,
    pub api: String,
    pub data: PathBuf,
}

impl Gateway {
    pub fn start() -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let mut command = Command::new(program);
        command
            .env_remove("HAWSER_GATEWAY_CONFIG")
            .current_dir(folder.path())
            .args([
                "--embedded",
                "--listen",
                "127.0.0.1:0",
                "--wss",
                "127.0.0.1:0",
            ])
            .args(["--admin", "127.0.0.1:0", "--set", "log.disk_reserve_mib=1"])
            .args(["--set", "node.cores=1", "--data-dir"])
            .arg(&data)
            .stderr(Stdio::null());
        let running = Running::start(command, "Ctrl-C", Some(folder));
        let http = running.word("ws://", '/');
        Some(Self {
            ws: format!("ws://{http}/v1/ws"),
            api: format!("http://{http}"),
            _running: running,
            data,
        })
    }

    /// A scenario against it, of so many sessions.
    pub fn scenario(&self, count: u32, phases: &str) -> String {
        format!(
            "[target]\nurl = \"{}\"\napi = \"{}\"\nkey = \"{}\"\n[sessions]\ncount = {count}\nsettle_s = 5\n\
             [[phase]]\nkind = \"ramp\"\nto = {count}\nper_second = 200\n{phases}",
            self.ws,
            self.api,
            self.data.display()
        )
    }
}

/// A worker on a free port of 127.0.0.1.
pub fn worker(more: &[&str]) -> (Running, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser-loadgen"));
    command
        .args(["worker", "--listen", "127.0.0.1:0"])
        .args(more)
        .stderr(Stdio::null());
    let running = Running::start(command, "listening on ", None);
    let address = running.word("listening on ", '\n');
    (running, address)
}

/// A coordinator that is to play this.
pub fn coordinator(folder: &Path, text: &str, more: &[&str]) -> Command {
    let file = folder.join("short.toml");
    std::fs::write(&file, text).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser-loadgen"));
    command
        .arg("scenario")
        .arg(file)
        .args(more)
        .stdin(Stdio::null());
    command
}

/// A coordinator whose scenario has come to this phase, and what more it says on standard error.
pub fn playing(
    folder: &Path,
    text: &str,
    more: &[&str],
    phase: &str,
) -> (Child, BufReader<ChildStderr>) {
    let mut child = coordinator(folder, text, more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut said = BufReader::new(child.stderr.take().expect("piped"));
    let mut all = String::new();
    while !all.contains(&format!("phase {phase}:")) {
        let read = said.read_line(&mut all).expect("text");
        assert!(read > 0, "it ended: {all}");
    }
    (child, said)
}

/// Processes that this one started and that are there.
pub fn children(of: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        fields.split_whitespace().nth(1) == Some(&of.to_string())
    })
    .collect()
}

/// Everything it said.
pub fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// Waits until something is so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
