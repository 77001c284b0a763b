//! The real program: exit codes, messages that name the way out, signals, reload, kill -9.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

fn program(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser-gateway"));
    command
        .current_dir(dir)
        .args(args)
        .env_remove("HAWSER_GATEWAY_CONFIG")
        .stdin(Stdio::null());
    command
}

/// Everything on free ports, in a directory of its own.
fn embedded(dir: &Path, more: &[&str]) -> Command {
    let mut command = program(
        dir,
        &[
            "--embedded",
            "--data-dir",
            "data",
            "--listen",
            "127.0.0.1:0",
            "--wss",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--set",
            "log.disk_reserve_mib=1",
            "--set",
            "node.cores=1",
        ],
    );
    command.args(more);
    command
}

fn run(mut command: Command) -> (Option<i32>, String) {
    let Output {
        status,
        stderr,
        stdout,
    } = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&stderr).into_owned() + &String::from_utf8_lossy(&stdout);
    (status.code(), text)
}

/// A running program, killed when dropped.
struct Running {
    child: Child,
    http: SocketAddr,
    admin: SocketAddr,
    banner: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut banner = String::new();
        for line in lines.by_ref() {
            let line = line.expect("text");
            banner.push_str(&line);
            banner.push('\n');
            if line.starts_with("Ctrl-C") {
                break;
            }
        }
        let addr = |before: &str, after: char| {
            let text = banner.split_once(before).expect("in the banner").1;
            let end = text.find([after, '\n']).expect("an end");
            text[..end].parse().expect("an address")
        };
        Self {
            http: addr("ws://", '/'),
            admin: addr("Admin        http://", '/'),
            child,
            banner,
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill").success());
    }

    fn ended(&mut self) -> Option<i32> {
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

fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    answer
}

#[test]
fn a_taken_port_is_4_and_named() {
    let dir = TempDir::new().expect("a directory");
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = held.local_addr().expect("bound").to_string();
    for flag in ["--listen", "--wss", "--admin"] {
        let (code, text) = run(embedded(dir.path(), &[flag, &addr]));
        assert_eq!(code, Some(4), "{flag}: {text}");
        assert!(text.contains(&format!("{addr} is taken")), "{flag}: {text}");
    }
}

#[cfg(feature = "engines")]
#[test]
fn an_engine_that_does_not_answer_is_6_and_named_with_its_key() {
    let dir = TempDir::new().expect("a directory");
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = nobody.local_addr().expect("bound").to_string();
    drop(nobody);
    let (code, text) = run(embedded(
        dir.path(),
        &[
            "--set",
            "log.kind=kafka",
            "--set",
            &format!("log.bootstrap={addr}"),
            "--set",
            "engines.wait_for_engines_s=2",
            "--set",
            "log.call_timeout_ms=500",
        ],
    ));
    assert_eq!(code, Some(6), "{text}");
    assert!(text.contains("waiting for an engine"), "{text}");
    assert!(text.contains("the log did not answer"), "{text}");
    assert!(text.contains("log.bootstrap"), "{text}");
}

#[test]
fn an_engine_in_the_process_is_for_one_process_that_does_everything() {
    let dir = TempDir::new().expect("a directory");
    let (code, text) = run(program(dir.path(), &[]));
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("log.kind") && text.contains("--embedded"),
        "{text}"
    );
    let (code, text) = run(embedded(dir.path(), &["--set", "node.roles=edge"]));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("belongs to one process"), "{text}");
}

#[test]
fn a_bad_key_is_2_and_the_right_one_is_named() {
    let dir = TempDir::new().expect("a directory");
    let (code, text) = run(embedded(
        dir.path(),
        &["--set", "session.hearbeat_ms=10000"],
    ));
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("did you mean `session.heartbeat_ms`?"),
        "{text}"
    );
    fs::write(
        dir.path().join("g.toml"),
        "[listen]\nhttp = [\"127.0.0.1:1\"]\nechoo = true\n",
    )
    .expect("written");
    let (code, text) = run(program(
        dir.path(),
        &["--config", "g.toml", "--check-config"],
    ));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("did you mean `listen.echo`?"), "{text}");
    let (code, text) = run(program(
        dir.path(),
        &["--config", "none.toml", "--check-config"],
    ));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("none.toml"), "{text}");
    let (code, text) = run(program(dir.path(), &["--nonsense"]));
    assert_eq!(code, Some(2), "{text}");
}

#[test]
fn check_and_print_config_agree() {
    let dir = TempDir::new().expect("a directory");
    let (code, text) = run(program(dir.path(), &["--embedded", "--check-config"]));
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "the configuration is sound\n")
    );
    let (code, printed) = run(program(
        dir.path(),
        &["--print-config", "--set", "session.heartbeat_ms=7000"],
    ));
    assert_eq!(code, Some(0));
    assert!(printed.contains("heartbeat_ms = 7000"), "{printed}");
    fs::write(dir.path().join("printed.toml"), &printed).expect("written");
    let (code, again) = run(program(
        dir.path(),
        &["--config", "printed.toml", "--print-config"],
    ));
    assert_eq!(
        (code, again),
        (Some(0), printed),
        "what is printed can be read"
    );
    assert!(
        !dir.path().join("hawser-data").exists(),
        "nothing is made by looking"
    );
}

#[test]
fn without_embedded_it_says_what_to_do() {
    let dir = TempDir::new().expect("a directory");
    let (code, text) = run(program(dir.path(), &[]));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--embedded"), "{text}");
}

#[test]
fn a_data_directory_of_an_unknown_format_is_5_and_the_way_out_is_named() {
    let dir = TempDir::new().expect("a directory");
    let mut first = Running::start(embedded(dir.path(), &[]));
    let (code, text) = run(embedded(dir.path(), &[]));
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("open in another process"), "{text}");
    first.signal("-TERM");
    assert_eq!(first.ended(), Some(0));
    let format = dir.path().join("data/FORMAT");
    let text = fs::read_to_string(&format).expect("a format");
    let digit = text.find(|c: char| c.is_ascii_digit()).expect("a version");
    fs::write(
        &format,
        format!("{}99{}", &text[..digit], &text[digit + 1..]),
    )
    .expect("written");
    let (code, text) = run(embedded(dir.path(), &[]));
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("format"), "{text}");
    assert!(
        text.contains("backup") || text.contains("version that wrote it"),
        "the way out: {text}"
    );
    fs::write(dir.path().join("file"), "").expect("written");
    let (code, text) = run(embedded(dir.path(), &["--data-dir", "file"]));
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("--data-dir"), "{text}");
}

#[test]
fn an_unreadable_key_is_2_and_names_file_and_setting() {
    let dir = TempDir::new().expect("a directory");
    let more = ["--set", "tls.cert=none.pem", "--set", "tls.key=none.key"];
    let (code, text) = run(embedded(dir.path(), &more));
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("none.pem") && text.contains("tls.cert"),
        "{text}"
    );
    let (code, text) = run(embedded(dir.path(), &["--set", "auth.jwks=none.json"]));
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("none.json") && text.contains("auth.jwks"),
        "{text}"
    );
    fs::write(dir.path().join("short"), "too short").expect("written");
    let (code, text) = run(embedded(
        dir.path(),
        &["--set", "auth.cluster_secret=short"],
    ));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("at least 32"), "{text}");
}

#[test]
fn plain_text_beyond_loopback_is_refused() {
    let dir = TempDir::new().expect("a directory");
    let (code, text) = run(embedded(dir.path(), &["--listen", "0.0.0.0:0"]));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("listen.plain_anywhere"), "{text}");
}

#[test]
fn the_page_and_its_admin_come_up_and_sigterm_drains() {
    let dir = TempDir::new().expect("a directory");
    let mut node = Running::start(embedded(dir.path(), &[]));
    for expected in [
        "Page",
        "wss://",
        "SHA-256 ",
        "fsync",
        "hawser-gateway token",
        "data",
    ] {
        assert!(
            node.banner.contains(expected),
            "{expected}: {}",
            node.banner
        );
    }
    assert!(get(node.http, "/").starts_with("HTTP/1.1 200"), "the page");
    assert!(
        get(node.http, "/v1/demo/users").contains("alice"),
        "the API"
    );
    assert!(
        get(node.admin, "/readyz").starts_with("HTTP/1.1 200"),
        "ready"
    );
    let key = fs::metadata(dir.path().join("data/keys/self-made.key")).expect("a key");
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    node.signal("-TERM");
    assert_eq!(node.ended(), Some(0));
}

#[test]
fn an_operators_drain_with_exit_ends_the_process_as_sigterm_does() {
    let dir = TempDir::new().expect("a directory");
    let mut node = Running::start(embedded(dir.path(), &[]));
    let admin = node.admin.to_string();
    let (code, text) = run(program(dir.path(), &["drain", "--exit", "--ask", &admin]));
    assert!(code == Some(0) && text.contains("has ended"), "{text}");
    assert_eq!(node.ended(), Some(0));
}

#[test]
fn a_kill_9_leaves_data_that_the_next_start_takes() {
    let dir = TempDir::new().expect("a directory");
    let node = Running::start(embedded(dir.path(), &[]));
    node.signal("-KILL");
    drop(node);
    let again = Running::start(embedded(dir.path(), &[]));
    assert!(
        get(again.http, "/v1/demo/users").contains("alice"),
        "seeded once"
    );
}

#[test]
fn sighup_takes_a_new_certificate_and_keeps_the_old_one_when_it_is_bad() {
    let dir = TempDir::new().expect("a directory");
    let (cert, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    let write = |path: &Path, bytes: &str| fs::write(path, bytes).expect("written");
    let fresh =
        || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let first = fresh();
    write(&cert, &first.cert.pem());
    write(&key, &first.signing_key.serialize_pem());
    let more = [
        "--set",
        "tls.cert=c.pem",
        "--set",
        "tls.key=k.pem",
        "--set",
        "tls.reload_ms=3600000",
    ];
    let node = Running::start(embedded(dir.path(), &more));
    let count = |name: &str| {
        let metrics = get(node.admin, "/metrics");
        let lines = metrics
            .lines()
            .filter(|l| l.starts_with(&format!("{name}{{")));
        lines
            .filter_map(|l| l.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum::<u64>()
    };
    let counted = |name: &str| {
        let deadline = Instant::now() + PATIENCE;
        while count(name) == 0 {
            assert!(Instant::now() < deadline, "{name} stays 0");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    // The file system's clock must show a difference.
    std::thread::sleep(Duration::from_millis(50));
    let second = fresh();
    write(&cert, &second.cert.pem());
    write(&key, &second.signing_key.serialize_pem());
    node.signal("-HUP");
    counted("hawser_reloads_total");
    std::thread::sleep(Duration::from_millis(50));
    write(&key, "rubbish");
    node.signal("-HUP");
    counted("hawser_reload_errors_total");
    assert!(
        get(node.http, "/v1/demo/users").contains("alice"),
        "it serves on"
    );
}

#[test]
fn token_prints_one_that_the_node_takes() {
    let dir = TempDir::new().expect("a directory");
    let node = Running::start(embedded(dir.path(), &[]));
    let args = [
        "token",
        "--user",
        "alice",
        "--device",
        "laptop",
        "--data-dir",
        "data",
    ];
    let (code, token) = run(program(dir.path(), &args));
    assert_eq!(code, Some(0), "{token}");
    let mut stream = TcpStream::connect(node.http).expect("it listens");
    let request = format!(
        "GET /v1/me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        token.trim()
    );
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("alice"),
        "{answer}"
    );
    let (code, text) = run(program(
        dir.path(),
        &["token", "--user", "al ice", "--device", "x"],
    ));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--user"), "{text}");
}
