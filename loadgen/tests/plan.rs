//! `hawser-loadgen plan` as a program: what it prints, what it refuses, and that docs/capacity.md is what it says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn plan(words: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_hawser-loadgen");
    let output = Command::new(program).arg("plan").args(words).output();
    output.expect("the program runs")
}

/// Standard output of a plan that goes.
fn said(words: &[&str]) -> String {
    let output = plan(words);
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {faults}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Exit code and standard error of a plan that does not go.
fn refused(words: &[&str]) -> (Option<i32>, String) {
    let output = plan(words);
    assert!(output.stdout.is_empty(), "{words:?} printed a plan");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file");
    path.display().to_string()
}

#[test]
fn the_document_is_what_the_program_says() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/capacity.md");
    let mut document = fs::read_to_string(&path).expect("docs/capacity.md");
    let before = document.clone();
    for preset in ["20m", "200m"] {
        let (begin, end) = (
            format!("<!-- {preset} -->\n"),
            format!("<!-- end of {preset} -->"),
        );
        let from = document.find(&begin).expect("a beginning") + begin.len();
        let to = document.find(&end).expect("an end");
        let made = said(&["--preset", preset, "--markdown"]);
        document.replace_range(from..to, &made);
    }
    if std::env::var_os("HAWSER_WRITE_DOCS").is_some() {
        fs::write(&path, &document).expect("docs/capacity.md");
        return;
    }
    assert!(
        document == before,
        "docs/capacity.md is old: HAWSER_WRITE_DOCS=1 cargo test -p hawser-loadgen --test plan"
    );
}

#[test]
fn json_parses_and_flags_win_over_the_file_and_the_preset() {
    let folder = tempfile::tempdir().expect("a folder");
    let toml = file(
        folder.path(),
        "ours.toml",
        "[load]\nusers = 1_000_000\nonline_share = 0.5\n[[mix]]\nshare = 1\nmembers = 2\n",
    );
    let text = said(&[
        "--preset",
        "200m",
        "--file",
        &toml,
        "--online-share",
        "0.1",
        "--json",
    ]);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["format"], "hawser-capacity-plan-1");
    assert_eq!(json["figures"]["sessions"], 100_000);
    assert_eq!(json["figures"]["mean_recipients"], 1);
    let from = |key: &str| json["input"][key]["from"].clone();
    assert_eq!(from("users"), "file ours.toml");
    assert_eq!(from("online_share"), "flag");
    assert_eq!(from("log_retention_days"), "preset 200m");
    assert_eq!(from("heartbeat_s"), "default");
}

#[test]
fn what_cannot_be_ends_with_2_and_names_the_key_and_the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let wrong = file(folder.path(), "wrong.toml", "[load]\nuser = 5\n");
    for (words, wanted) in [
        (
            vec!["--file", wrong.as_str()],
            "load.user: there is no such key: did you mean users",
        ),
        (vec!["--users", "0"], "users = 0: give 1 to 10,000,000,000"),
        (vec!["--users", "many"], "users = many: give a number"),
        (
            vec!["--online-share", "-0.5"],
            "online_share = -0.5: give 0 to 1",
        ),
        (
            vec!["--mix", "0.5:2"],
            "the shares of all classes must add up to 1",
        ),
        (vec!["--partitions", "1000"], "a power of two"),
        (vec!["--preset", "2m"], "there are 20m and 200m"),
        (vec!["--userz", "3"], "--users"),
        (vec!["--json", "--markdown"], "cannot be used with"),
    ] {
        let (code, fault) = refused(&words);
        assert_eq!(code, Some(2), "{words:?}: {fault}");
        assert!(fault.contains(wanted), "{words:?}: {fault}");
    }
    let gone = folder.path().join("none.toml").display().to_string();
    for words in [
        ["--file", &gone],
        ["--from", &gone],
        ["--html", folder.path().to_str().expect("UTF-8")],
    ] {
        let (code, fault) = refused(&words);
        assert_eq!(code, Some(3), "{fault}");
        assert!(fault.contains(words[0]), "{fault}");
    }
}

#[test]
fn the_printed_defaults_plan_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let defaults = said(&["--defaults"]);
    assert!(defaults.contains(
        "# Daily users, users; 1 to 10,000,000,000. From: the original design.\nusers = 20000000\n"
    ));
    let toml = file(folder.path(), "defaults.toml", &defaults);
    assert_eq!(said(&["--file", &toml]), said(&[]));
    let changed = said(&["--preset", "200m", "--edge-cores", "32", "--defaults"]);
    let toml = file(folder.path(), "changed.toml", &changed);
    assert_eq!(
        said(&["--file", &toml]),
        said(&[
            "--users",
            "2e8",
            "--log-retention-days",
            "30",
            "--edge-cores",
            "32"
        ])
    );
}

#[test]
fn a_measured_result_counts_and_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let sample = |phase: &str, at_s: u32, sessions: u32, rss: u64, ticks: u32| {
        format!(
            "{{\"at_s\":{at_s},\"phase\":\"{phase}\",\"sessions\":{sessions},\"usage\":{{\"rss\":{rss},\"slab\":{},\"user_ticks\":{ticks},\
             \"system_ticks\":0,\"descriptors\":9}}}}",
            rss * 2
        )
    };
    let samples = [
        sample("idle", 1, 0, 0, 0),
        sample("idle", 2, 20_000, 40_000_000, 0),
        sample("load", 3, 20_000, 0, 0),
        sample("load", 13, 20_000, 0, 300),
    ];
    let result = format!(
        "{{\"command\":\"hawser-loadgen --group-share 0\",\"sent_per_s\":1000.0,\"delivered_per_s\":1000.0,\"samples\":[{}]}}",
        samples.join(",")
    );
    let result = file(folder.path(), "result.json", &result);
    let output = plan(&["--from", &result, "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("session_user_bytes = 2000.0") && told.contains("cpu_us_one_to_one = 300.0"),
        "{told}"
    );
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["figures"]["session_bytes"], 4_000);
    assert_eq!(
        json["input"]["cpu_us_one_to_one"]["from"],
        "measured: result.json"
    );
    let (code, fault) = refused(&["--from", &file(folder.path(), "empty.json", "{}")]);
    assert_eq!(code, Some(2));
    assert!(fault.contains("--server-pid"), "{fault}");
}

#[test]
fn the_page_is_one_file_that_needs_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("plan.html");
    let path = page.to_str().expect("UTF-8");
    said(&["--preset", "200m", "--html", path]);
    let html = fs::read_to_string(&page).expect("a page");
    assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
    assert!(html.contains("@media print") && html.matches("<svg").count() == 8);
    for foreign in [
        "http://", "https://", "<script", "src=", "href=", "@import", "url(",
    ] {
        assert!(!html.contains(foreign), "{foreign}");
    }
}
