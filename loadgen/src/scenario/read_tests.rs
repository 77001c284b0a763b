use super::super::model::Op;
use super::*;

const HEAD: &str = "[target]\nurl = \"ws://127.0.0.1:1/\"\nkey = \"k\"\n[sessions]\ncount = 100\n";
const RAMP: &str = "[[phase]]\nkind = \"ramp\"\nto = 100\nper_second = 50\n";

fn fault(text: &str) -> String {
    scenario(text, "s", &[]).expect_err(text).to_string()
}

/// Phases, and what is said of each.
const PHASES: &[(&str, &[&str])] = &[
    (
        "[[phase]]\nkind = \"mixx\"",
        &[
            "line 11",
            "phase mixx, kind",
            "no kind of phase: give ramp, hold, mix",
        ],
    ),
    (
        "[[phase]]\nkind = \"mix\"\nseconds = 1\nrate = 5\npace = 3",
        &[
            "line 14",
            "pace",
            "does nothing in a phase of kind mix, which takes seconds, rate",
        ],
    ),
    (
        "[[phase]]\nkind = \"mix\"\nseconds = 1",
        &["line 10", "phase mix, rate", "is missing"],
    ),
    (
        "[[phase]]\nkind = \"mix\"\nseconds = 0\nrate = 1",
        &["line 12", "seconds", "0 is not between 1"],
    ),
    (
        "[[phase]]\nkind = \"mix\"\nseconds = 1\nrate = -1",
        &["line 13", "rate", "-1 is not between 0"],
    ),
    (
        "[[phase]]\nkind = \"mix\"\nseconds = 1\nrate = nan",
        &["rate", "NaN is not between"],
    ),
    (
        "[[phase]]\nkind = \"mix\"\nseconds = 1\nrate = 1\ngroup_share = 1.5",
        &["group_share", "1.5 is not between 0 and 1"],
    ),
    (
        "[[phase]]\nkind = \"mix\"\nseconds = 1\nrate = 1\nbody = 100000",
        &["body", "100000 is not between 24 and 61440"],
    ),
    (
        "[[phase]]\nkind = \"mix\"\nseconds = 1\nrate = 1\nbody = [{ bytes = 100, share = 0.5 }]",
        &["body", "add up to 0.5"],
    ),
    (
        "[[phase]]\nkind = \"mix\"\nseconds = 1\nrate = 1\nbody = []",
        &["body", "add up to"],
    ),
    (
        "[[phase]]\nkind = \"storm\"",
        &["share", "give share, 0 to 1, or all = true"],
    ),
    (
        "[[phase]]\nkind = \"storm\"\nshare = 0.5\nall = true",
        &["share", "or all = true"],
    ),
    (
        "[[phase]]\nkind = \"slow_readers\"\nshare = 0.6\nseconds = 1\nrate = 1",
        &["share", "0.6 is not between"],
    ),
    (
        "[[phase]]\nkind = \"drain\"\ngateway = 0",
        &[
            "line 11",
            "with one gateway its sessions have nowhere to go",
            "target.also",
        ],
    ),
    (
        "[[phase]]\nkind = \"ramp\"\nto = 200\nper_second = 1",
        &["line 12", "phase ramp2, to", "even number above 100"],
    ),
    (
        "[[phase]]\nkind = \"hold\"\nseconds = 1\nname = \"a b\"",
        &["name", "letters, digits"],
    ),
    (
        "[[phase]]\nkind = \"hold\"\nseconds = 1\nname = \"ramp\"",
        &["name", "of its own"],
    ),
    (
        "[[phase]]\nkind = \"hold\"\nsecond = 1",
        &["line 12", "unknown field `second`", "`seconds`"],
    ),
    (
        "[[phase]]\nkind = \"hold\"\nseconds = \"x\"",
        &["line 12", "invalid type"],
    ),
    (
        "[[expect]]\nmetric = \"lots\"\nop = \"==\"\nvalue = 0",
        &["line 10", "lots", "did you mean lost"],
    ),
    (
        "[[expect]]\nmetric = \"ramp.conect_p99_ms\"\nop = \"<\"\nvalue = 9",
        &["did you mean ramp.connect_p99_ms"],
    ),
    (
        "[[expect]]\nmetric = \"ramp.rss_mib\"\nop = \"<\"\nvalue = 9",
        &["give target.server_pid"],
    ),
    (
        "[[expect]]\nmetric = \"lost\"\nop = \"=\"\nvalue = 0",
        &["unknown variant `=`", "`==`"],
    ),
    ("[[worker]]\naddress = \"x\"", &["unknown field `worker`"]),
];

#[test]
fn faults_name_the_key_the_line_and_the_way_out() {
    for (phase, wanted) in PHASES {
        let told = fault(&format!("{HEAD}{RAMP}{phase}\n"));
        for word in *wanted {
            assert!(told.contains(word), "{phase}\n→ {told}\nlacks {word}");
        }
    }
}

#[test]
fn faults_of_the_whole_are_told_too() {
    for (text, wanted) in [
        (
            format!("{HEAD}{RAMP}[[phase]]\nkind = \"soak\"\nminutes = 0.1\nrate = 1\n"),
            &["line 12", "minutes", "0.1 is not between 0.25"][..],
        ),
        (
            HEAD.replace("100", "3") + RAMP,
            &["line 5: count", "people talk in pairs"][..],
        ),
        (
            HEAD.to_owned(),
            &["phase", "the first with kind = \"ramp\""],
        ),
        (
            format!("{HEAD}[[phase]]\nkind = \"hold\"\nseconds = 1\n"),
            &["line 7", "a ramp comes first"],
        ),
        (
            format!("{HEAD}threads = 0\n{RAMP}"),
            &["line 6: threads", "at least 1"],
        ),
        (
            format!("{HEAD}treads = 1\n{RAMP}"),
            &["line 6", "unknown field `treads`", "`threads`"],
        ),
        (RAMP.to_owned(), &["missing field `target`"]),
        ("[target".to_owned(), &["line 1"]),
    ] {
        let told = fault(&text);
        for word in wanted {
            assert!(told.contains(word), "{text}\n→ {told}\nlacks {word}");
        }
    }
}

#[test]
fn what_a_gateway_alone_cannot_do_is_said_beforehand_and_two_can() {
    let two = HEAD.replace(
        "[sessions]",
        "also = [\"127.0.0.1:2\"]\nadmin = [\"127.0.0.1:3\", \"127.0.0.1:4\"]\n[sessions]",
    );
    let drain = |n: u32| format!("[[phase]]\nkind = \"drain\"\ngateway = {n}\n");
    assert!(scenario(&format!("{two}{RAMP}{}", drain(1)), "s", &[]).is_ok());
    assert!(
        fault(&format!("{two}{RAMP}{}", drain(2))).contains("not in target.admin, which has 2")
    );
    assert!(
        fault(&format!("{two}{RAMP}{}{}", drain(1), drain(0)))
            .contains("the last gateway cannot be drained")
    );
    assert!(fault(&format!("{two}{RAMP}{}{}", drain(1), drain(1))).contains("is drained before"));
}

#[test]
fn values_are_put_in_the_place_of_the_files() {
    let text = format!(
        "{HEAD}{RAMP}[[phase]]\nkind = \"mix\"\nname = \"evening\"\nseconds = 9\nrate = 5\n\
        [[expect]]\nmetric = \"evening.deliver_p99_ms\"\nop = \"<=\"\nvalue = 50\n"
    );
    let sets = [
        "target.url=ws://127.0.0.1:7/x",
        "sessions.count=200",
        "phase.evening.rate=7.5",
        "phase.1.to=200",
        "target.server_pid=[12]",
    ];
    let read = scenario(&text, "stem", &sets.map(str::to_owned)).expect("a scenario");
    assert_eq!(
        (
            read.name.as_str(),
            read.sessions.count,
            read.target.url.as_str()
        ),
        ("stem", 200, "ws://127.0.0.1:7/x")
    );
    assert_eq!(read.target.server_pid, [12]);
    assert!(matches!(read.phases[0].kind, Kind::Ramp { to: 200, .. }));
    assert_eq!(read.phases[1].kind.load().map(|load| load.rate), Some(7.5));
    assert_eq!(read.expects[0].op, Op::AtMost);
    for set in [
        "phase.night.rate=1",
        "phase.9.rate=1",
        "phase.0.rate=1",
        "count=1",
        "sessions.count",
    ] {
        let told = scenario(&text, "s", &[set.to_owned()])
            .expect_err(set)
            .to_string();
        assert!(
            told.contains("--set") && told.contains("phase.NAME"),
            "{set}: {told}"
        );
    }
    let unknown = scenario(&text, "s", &["sessions.cuont=2".to_owned()])
        .expect_err("unknown")
        .to_string();
    assert!(unknown.contains("unknown field `cuont`"), "{unknown}");
}

#[test]
fn the_examples_are_scenarios() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/scenarios");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("examples") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a file");
        let sets = ["target.server_pid=[1]".to_owned()];
        let read = scenario(&text, "s", &sets);
        assert!(read.is_ok(), "{}: {read:?}", path.display());
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
}
