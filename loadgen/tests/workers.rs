//! A scenario played by several processes, as programs: what they measure together, and what is said when one of them is not as it
//! has to be. Runs that reach a gateway need its program (see support).

mod support;

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hawser_loadgen::workers::token;
use hawser_loadgen::workers::wire::{self, Answer, CONTROL, GREETING_BYTES_MAX, Greeting, Hello};
use support::{Gateway, children, coordinator, eventually, playing, said, worker};

const MIX: &str =
    "[[phase]]\nkind = \"mix\"\nseconds = 3\nrate = 60\nbody = 200\ngroup_share = 0.2\n";
const LONG: &str = "[[phase]]\nkind = \"mix\"\nseconds = 300\nrate = 20\nbody = 200\n";
const STORM: &str = "[[phase]]\nkind = \"storm\"\nshare = 0.5\nrate = 10\nbody = 200\n";
const SLOW: &str =
    "[[phase]]\nkind = \"slow_readers\"\nshare = 0.2\nseconds = 1\nrate = 20\nbody = 200\n";

fn token_file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("text").to_owned()
}

/// Without a gateway: for what is found out before one is needed.
fn nowhere() -> String {
    "[target]\nurl = \"ws://127.0.0.1:9/v1/ws\"\nkey = \"no-such-key\"\n[sessions]\ncount = 10\n\
     [[phase]]\nkind = \"ramp\"\nto = 10\nper_second = 5\n"
        .to_owned()
}

fn figure(json: &serde_json::Value, name: &str) -> f64 {
    json["figures"][name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name} in {json}"))
}

#[test]
fn two_workers_play_one_scenario_and_their_figures_add_up() {
    let Some(gateway) = Gateway::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let token = token_file(folder.path(), "token", "one token of both sides\n");
    let with_token = ["--token-file", token.as_str(), "--once"];
    let (mut first, one) = worker(&with_token);
    let (mut second, two) = worker(&with_token);
    let text = gateway.scenario(100, &format!("{MIX}{SLOW}{STORM}"));
    let page = folder.path().join("report.html");
    let more = [
        "--workers",
        &format!("{one},{two}"),
        "--workers-token-file",
        &token,
        "--json",
        "-",
        "--html",
        page.to_str().expect("text"),
    ];
    let output = coordinator(folder.path(), &text, &more)
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let workers = json["workers"].as_array().expect("workers");
    assert_eq!(workers.len(), 2, "{json}");
    let of = |at: usize, name: &str| workers[at]["counts"][name].as_u64().expect("a count");
    let users: Vec<u64> = workers
        .iter()
        .map(|w| w["users"].as_u64().expect("users"))
        .collect();
    assert_eq!(users, [60, 40], "groups of 20 stay whole");
    for name in ["sent", "delivered"] {
        assert!(of(0, name) > 0 && of(1, name) > 0, "{name}: {json}");
    }
    assert_eq!((of(0, "live"), of(1, "live")), (60, 40));
    let delivered = (of(0, "delivered") + of(1, "delivered")) as f64;
    assert_eq!(figure(&json, "delivered"), delivered);
    assert_eq!(figure(&json, "ramp.sessions"), 100.0);
    assert_eq!(
        figure(&json, "ramp.connect_count"),
        100.0,
        "histograms are merged"
    );
    assert_eq!(
        figure(&json, "mix.deliver_count"),
        figure(&json, "mix.delivered")
    );
    assert_eq!(figure(&json, "storm.cut"), 50.0);
    assert_eq!(figure(&json, "storm.not_back"), 0.0);
    assert_eq!(figure(&json, "slow_readers.slow"), 20.0);
    for name in ["lost", "duplicated", "reordered", "unanswered", "foreign"] {
        assert_eq!(figure(&json, name), 0.0, "{name}");
    }
    let told = said(&output);
    assert!(
        told.contains(&format!("worker {two}: users 60 to 99")),
        "{told}"
    );
    assert!(told.contains("clock "), "{told}");
    let page = std::fs::read_to_string(page).expect("a page");
    for wanted in ["Workers", one.as_str(), two.as_str(), "MiB at most"] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert_eq!(
        (first.ended(), second.ended()),
        (Some(0), Some(0)),
        "--once"
    );
}

#[test]
fn processes_of_one_host_need_no_second_command_and_end_with_it() {
    let Some(gateway) = Gateway::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let text = gateway.scenario(
        40,
        "[[phase]]\nkind = \"mix\"\nseconds = 1\nrate = 20\nbody = 200\n",
    );
    let more = ["--processes", "2"];
    let output = coordinator(folder.path(), &text, &more)
        .output()
        .expect("runs");
    let told = said(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    for wanted in [
        "worker process 1 (pid ",
        "20 of 20 live",
        "All 5 were as they had to be.",
    ] {
        assert!(told.contains(wanted), "{wanted} in {told}");
    }
    // A coordinator that is killed takes its processes with it.
    let text = gateway.scenario(40, LONG);
    let (mut running, _said) = playing(folder.path(), &text, &more, "mix");
    let pids = children(running.id());
    assert_eq!(pids.len(), 2);
    running.kill().expect("killed");
    running.wait().expect("ended");
    eventually("they end", || {
        let is_there = |pid: &u32| Path::new(&format!("/proc/{pid}/exe")).exists();
        !pids.iter().any(is_there)
    });
}

#[test]
fn a_killed_worker_fails_the_run_with_its_name_and_frees_the_others() {
    let Some(gateway) = Gateway::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (first, one) = worker(&[]);
    let (_second, two) = worker(&[]);
    let json = folder.path().join("out.json");
    let more = [
        "--workers",
        &format!("{one},{two}"),
        "--json",
        json.to_str().expect("text"),
    ];
    let text = gateway.scenario(40, LONG);
    let (mut running, mut said_after) = playing(folder.path(), &text, &more, "mix");
    first.signal("-KILL");
    let mut told = String::new();
    said_after.read_to_string(&mut told).expect("text");
    assert_eq!(running.wait().expect("ended").code(), Some(3), "{told}");
    let wanted = format!(
        "worker {one}: it ended the connection; the run is given up, and the other workers are stopped"
    );
    assert!(told.contains(&wanted), "{told}");
    assert!(!json.exists(), "a run that failed has no result");
    // The other one is there for the next run.
    let text = gateway.scenario(20, "");
    let more = ["--workers", two.as_str(), "--quiet"];
    let output = coordinator(folder.path(), &text, &more)
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn a_coordinator_that_is_gone_stops_its_workers() {
    let Some(gateway) = Gateway::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (mut first, one) = worker(&["--once"]);
    let more = ["--workers", one.as_str()];
    let text = gateway.scenario(40, LONG);
    let (mut running, _said) = playing(folder.path(), &text, &more, "mix");
    assert!(
        first.child.try_wait().expect("a child").is_none(),
        "it plays"
    );
    // As Ctrl-C does; that itself is ignored by whatever a shell began in the background.
    let ended = Command::new("kill")
        .args(["-TERM", &running.id().to_string()])
        .status();
    assert!(ended.expect("kill").success());
    assert!(!running.wait().expect("ended").success());
    assert_eq!(first.ended(), Some(0), "its only run is over");
}

#[test]
fn another_token_is_refused_with_words_on_both_sides() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = token_file(folder.path(), "token", "one token of both sides\n");
    let other = token_file(folder.path(), "other", "another token altogether\n");
    let (_worker, address) = worker(&["--token-file", &token]);
    for more in [vec!["--workers-token-file", &other], vec![]] {
        let more = [vec!["--workers", &address], more].concat();
        let output = coordinator(folder.path(), &nowhere(), &more)
            .output()
            .expect("runs");
        let told = said(&output);
        assert_eq!(output.status.code(), Some(3), "{told}");
        assert!(
            told.contains(&address) && told.contains("the token is another one"),
            "{told}"
        );
    }
}

#[test]
fn another_version_is_refused_with_words_by_either_side() {
    // A coordinator of another build at a worker of ours.
    let (_worker, address) = worker(&[]);
    let stream = TcpStream::connect(&address).expect("connected");
    let within = Duration::from_secs(10);
    let greeting: Greeting = wire::receive(&stream, GREETING_BYTES_MAX, within).expect("greets");
    assert_eq!(greeting.control, CONTROL);
    let strange = |control, version: &str| Greeting {
        control,
        version: version.to_owned(),
        nonce: token::random().expect("random"),
    };
    let hello = Hello {
        greeting: strange(CONTROL, "9.9.9"),
        proof: String::new(),
    };
    wire::send(&stream, &hello).expect("sent");
    let answer = wire::receive(&stream, GREETING_BYTES_MAX, within).expect("answers");
    let Answer::Refused { words } = answer else {
        panic!("{answer:?}")
    };
    assert!(
        words.contains("9.9.9") && words.contains("run the same build everywhere"),
        "{words}"
    );

    // A worker of another build before a coordinator of ours.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let old = strange(CONTROL + 1, "0.0.1");
    let worker = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("accepted");
        wire::send(&stream, &old).expect("sent");
        wire::receive::<Hello>(&stream, GREETING_BYTES_MAX, within).err()
    });
    let folder = tempfile::tempdir().expect("a folder");
    let more = ["--workers", address.as_str()];
    let output = coordinator(folder.path(), &nowhere(), &more)
        .output()
        .expect("runs");
    let told = said(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(
        told.contains("0.0.1") && told.contains("run the same build everywhere"),
        "{told}"
    );
    assert!(
        worker.join().expect("ended").is_some(),
        "it is told nothing"
    );
}

#[test]
fn whoever_cannot_take_part_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let play = |more: &[&str]| {
        let output = coordinator(folder.path(), &nowhere(), more)
            .output()
            .expect("runs");
        (output.status.code(), said(&output))
    };
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = free.local_addr().expect("an address").to_string();
    drop(free);
    let (code, told) = play(&["--workers", &nobody]);
    assert!(code == Some(3) && told.contains(&nobody), "{told}");
    assert!(told.contains("cannot be reached"), "{told}");
    // What a worker cannot do is said with its words.
    let (_worker, address) = worker(&[]);
    let (code, told) = play(&["--workers", &address]);
    assert!(
        code == Some(3) && told.contains("no-such-key cannot be read"),
        "{told}"
    );
    let (code, told) = play(&["--processes", "2"]);
    assert!(
        code == Some(3) && told.contains("no-such-key cannot be read"),
        "{told}"
    );
    // Impossible wishes.
    let (code, told) = play(&["--processes", "6"]);
    assert!(
        code == Some(2) && told.contains("no more than 5 workers"),
        "{told}"
    );
    let (code, told) = play(&["--workers", "a:1,a:1"]);
    assert!(
        code == Some(2) && told.contains("names a:1 twice"),
        "{told}"
    );
    let (code, told) = play(&["--workers", "a:1,b:1", "--check"]);
    assert!(
        code == Some(0) && told.contains("b:1: users 6 to 9"),
        "{told}"
    );
}

#[test]
fn a_worker_listens_beyond_loopback_with_a_token_alone() {
    let output = Command::new(env!("CARGO_BIN_EXE_hawser-loadgen"))
        .args(["worker", "--listen", "0.0.0.0:0"])
        .output()
        .expect("runs");
    let told = said(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("--token-file"), "{told}");
}
