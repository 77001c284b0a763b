//! The program as its operator meets it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser-fanout"));
    command.env_remove("HAWSER_FANOUT_CONFIG");
    command
}

fn output(args: &[&str]) -> Output {
    command().args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A running program; killed when dropped.
struct Running {
    child: Child,
    api: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(dir: &Path) -> Running {
    let mut child = command()
        .arg("--data-dir")
        .arg(dir)
        .args(["--set", "listen.api=127.0.0.1:0", "--set", "listen.admin="])
        .args(["--set", "auth.demo=true", "--set", "log.durability=os"])
        .args(["--set", "output.format=json"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = Vec::new();
    let api = loop {
        let Some(Ok(line)) = lines.next() else {
            panic!("it ended: {seen:?}");
        };
        let json: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if json["fields"]["message"] == "the API" {
            break json["fields"]["addr"].as_str().unwrap().to_owned();
        }
        seen.push(line);
    };
    // What it says later must not block it.
    std::thread::spawn(move || lines.for_each(drop));
    Running { child, api }
}

/// Status and body of a request.
fn call(api: &str, method: &str, path: &str, token: &str, body: &str) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(api).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {api}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

fn login(api: &str, user: &str) -> String {
    let body = format!("{{\"user\":\"{user}\",\"device\":\"test\"}}");
    let (status, json) = call(api, "POST", "/v1/demo/login", "", &body);
    assert_eq!(status, 200);
    json["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_wrong_key_or_value_is_named_and_exits_with_2() {
    for (args, words) in [
        (
            vec!["--check-config", "--set", "log.kid=kafka"],
            "did you mean `log.kind`?",
        ),
        (
            vec!["--check-config", "--set", "fanout.roles=api"],
            "belongs to one process",
        ),
        (vec!["--config", "/nonexistent.toml"], "/nonexistent.toml"),
        (vec!["--set", "nothing"], "section.key=value"),
    ] {
        let output = output(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(said(&output).contains(words), "{}", said(&output));
    }
    let sound = output(&["--check-config"]);
    assert_eq!(sound.status.code(), Some(0));
    let printed = output(&["--print-config", "--set", "ingest.cell=7"]);
    assert!(String::from_utf8_lossy(&printed.stdout).contains("cell = 7"));
}

#[test]
fn it_says_what_a_process_of_its_own_can_and_cannot_do() {
    let help = output(&["--help"]);
    let text = String::from_utf8_lossy(&help.stdout).replace('\n', " ");
    for words in [
        "everything belongs to one process",
        "any number of these processes",
        "SIGTERM",
    ] {
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains(words), "{squeezed}");
    }
}

#[test]
fn a_data_directory_in_use_is_refused_with_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(dir.path());
    let second = output(&["--data-dir", &dir.path().display().to_string()]);
    assert_eq!(second.status.code(), Some(5), "{}", said(&second));
    let pid = first.child.id().to_string();
    let words = said(&second);
    assert!(
        words.contains("open in another process") && words.contains(&pid),
        "{words}"
    );
}

#[test]
fn what_the_api_did_survives_kill_and_restart_and_sigterm_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = start(dir.path());
    let token = login(&running.api, "alice");
    let body = r#"{"name":"Deck","members":["bob"]}"#;
    let (status, group) = call(&running.api, "POST", "/v1/groups", &token, body);
    assert_eq!(status, 201, "{group}");
    // SIGKILL: an answered change is durable.
    running.child.kill().unwrap();
    running.child.wait().unwrap();

    let mut again = start(dir.path());
    let path = format!("/v1/groups/{}", group["chat"].as_str().unwrap());
    let (status, same) = call(&again.api, "GET", &path, &token, "");
    assert_eq!((status, &same), (200, &group));
    let (status, _) = call(&again.api, "GET", &path, &login(&again.api, "mallory"), "");
    assert_eq!(status, 404);
    let pid = again.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(again.child.wait().unwrap().code(), Some(0));
}
