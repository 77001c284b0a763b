//! `hawser-loadgen scenario` as a program, as far as no gateway is needed.

use std::path::PathBuf;
use std::process::{Command, Output};

const HEAD: &str =
    "[target]\nurl = \"ws://127.0.0.1:9/v1/ws\"\nkey = \"no-such-key\"\n[sessions]\ncount = 10\n";
const RAMP: &str = "[[phase]]\nkind = \"ramp\"\nto = 10\nper_second = 5\n";

fn play(text: &str, more: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let file: PathBuf = folder.path().join("short.toml");
    std::fs::write(&file, text).expect("written");
    Command::new(env!("CARGO_BIN_EXE_hawser-loadgen"))
        .arg("scenario")
        .arg(&file)
        .args(more)
        .output()
        .expect("runs")
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_wrong_file_is_refused_with_its_line_and_exit_code_2() {
    let wrong = format!("{HEAD}{RAMP}[[phase]]\nkind = \"mix\"\nseconds = 5\nrate = 5\npace = 7\n");
    let output = play(&wrong, &[]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for word in ["short.toml", "line 14", "pace", "which takes seconds, rate"] {
        assert!(told.contains(word), "{told}");
    }
    let output = play(
        &format!("{HEAD}{RAMP}"),
        &["--set", "target.server_pid=[4000000000]"],
    );
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("target.server_pid"),
        "{}",
        said(&output)
    );
}

#[test]
fn check_says_what_would_be_done_and_does_nothing() {
    let mix = "[[phase]]\nkind = \"mix\"\nname = \"evening\"\nseconds = 5\nrate = 5\n";
    let expect = "[[expect]]\nmetric = \"evening.deliver_p99_ms\"\nop = \"<\"\nvalue = 50\n";
    let output = play(
        &format!("{HEAD}{RAMP}{mix}{expect}"),
        &["--check", "--set", "phase.evening.rate=70"],
    );
    let told = said(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    for word in [
        "short: 10 sessions",
        "1  ramp: sessions are opened up to 10",
        "2  evening: 5 s of 70 messages per second of 5120 bytes",
        "evening.deliver_p99_ms < 50",
    ] {
        assert!(told.contains(word), "{told}");
    }
}

#[test]
fn a_scenario_that_cannot_be_played_ends_with_3() {
    let output = play(&format!("{HEAD}{RAMP}"), &["--quiet"]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("no-such-key cannot be read"), "{told}");
}
