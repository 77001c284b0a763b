use std::collections::BTreeSet;

use super::super::read;
use super::super::record::{Counts, Tick};
use super::*;
use crate::engine::Window;
use crate::usage::Usage;

fn scenario() -> Scenario {
    let text = "[target]\nurl = \"ws://127.0.0.1:1/\"\nkey = \"k\"\nserver_pid = [1]\nalso = [\"127.0.0.1:2\"]\n\
        admin = [\"127.0.0.1:3\"]\n[sessions]\ncount = 100\n\
        [[phase]]\nkind = \"ramp\"\nto = 100\nper_second = 50\n[[phase]]\nkind = \"hold\"\nname = \"idle\"\nseconds = 1\n\
        [[phase]]\nkind = \"mix\"\nseconds = 1\nrate = 1\n[[phase]]\nkind = \"soak\"\nminutes = 1\nrate = 1\nrss_growth_pct = 10\n\
        [[phase]]\nkind = \"storm\"\nall = true\npace = 5\n[[phase]]\nkind = \"slow_readers\"\nshare = 0.1\nseconds = 1\nrate = 1\n\
        [[phase]]\nkind = \"drain\"\ngateway = 0\n\
        [[expect]]\nmetric = \"mix.deliver_p99_ms\"\nop = \"<\"\nvalue = 50\n\
        [[expect]]\nmetric = \"idle.deliver_p99_ms\"\nop = \"<\"\nvalue = 50\n";
    read::scenario(text, "s", &[]).expect("a scenario")
}

/// Each phase has 20 ticks; the server has 100 MiB as sessions are there, and 1 MiB more with each tick of the soak.
fn record(scenario: &Scenario) -> Record {
    let mut record = Record::default();
    let mut at_s = 0.0;
    for (phase, of) in scenario.phases.iter().enumerate() {
        for tick in 0..20_u64 {
            at_s += 1.0;
            let mut window = Window::default();
            if of.name == "mix" {
                window.deliver.record((tick + 1) * 1_000_000);
            }
            let soaked = match of.name.as_str() {
                "soak" => tick,
                _ => 0,
            };
            let usage = Usage {
                rss: (100 + soaked) << 20,
                user_ticks: record.points.len() as u64 * 50,
                ..Usage::default()
            };
            record.add(&Tick {
                at_s,
                phase,
                counts: Counts {
                    live: 100,
                    delivered: 10 * record.points.len() as u64,
                    ..Counts::default()
                },
                window,
                server: Some(usage),
                own: Usage::default(),
                workers: Vec::new(),
            });
        }
    }
    record
}

#[test]
fn every_figure_has_a_name_that_expectations_may_give() {
    let scenario = scenario();
    let mut record = record(&scenario);
    let specials = [
        "ramp_s",
        "cut",
        "back",
        "back_s",
        "stated_s",
        "slow",
        "caught_up_s",
        "held_back",
        "drained_s",
        "left",
    ];
    for phase in &mut record.phases {
        phase.special.extend(specials.map(|name| (name, 1.0)));
    }
    let all = all(&scenario, &record, &End::default());
    let known: BTreeSet<String> = scenario
        .phases
        .iter()
        .flat_map(|phase| {
            names(&phase.kind)
                .into_iter()
                .map(|name| format!("{}.{name}", phase.name))
        })
        .chain(RUN.iter().chain(&SERVER).map(|name| (*name).to_owned()))
        .collect();
    // Specials of one kind were put into all of them above.
    let strange: Vec<&String> = all
        .keys()
        .filter(|name| !known.contains(*name))
        .filter(|name| !specials.iter().any(|special| name.ends_with(special)))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert_eq!(all["mix.deliver_count"], 20.0);
    assert!(
        (all["mix.deliver_p50_ms"] - 10.0).abs() < 0.1
            && (all["mix.deliver_max_ms"] - 20.0).abs() < 0.1,
        "{all:?}"
    );
    assert!(
        (all["mix.cpu_pct"] - 50.0).abs() < 3.0,
        "{}",
        all["mix.cpu_pct"]
    );
    assert!((all["mix.cpu_us_per_delivery"] - 50_000.0).abs() < 1.0);
}

#[test]
fn a_soak_is_judged_by_medians_after_its_warming_up() {
    let scenario = scenario();
    let all = all(&scenario, &record(&scenario), &End::default());
    // Of 20 samples of 100 .. 119 MiB: 106 in the second fifth, 118 in the last.
    assert!(
        (all["soak.rss_growth_pct"] - (118.0 / 106.0 - 1.0) * 100.0).abs() < 1e-6,
        "{}",
        all["soak.rss_growth_pct"]
    );
    let verdicts = judge(&scenario, &all);
    let soak = verdicts
        .iter()
        .find(|verdict| verdict.metric == "soak.rss_growth_pct")
        .expect("its own bound");
    assert!(!soak.pass, "11 % is above 10: {soak:?}");
    assert_eq!(soaked(&[(0.0, 1); 9]), None, "too few to say anything");
}

#[test]
fn what_was_not_measured_does_not_pass_and_what_must_never_be_is_always_judged() {
    let scenario = scenario();
    let mut end = End::default();
    end.findings.lost = 1;
    let verdicts = judge(&scenario, &all(&scenario, &record(&scenario), &end));
    let of = |metric: &str| {
        verdicts
            .iter()
            .find(|verdict| verdict.metric == metric)
            .expect("judged")
    };
    assert!(of("mix.deliver_p99_ms").pass);
    assert_eq!(
        (
            of("idle.deliver_p99_ms").pass,
            of("idle.deliver_p99_ms").figure
        ),
        (false, None)
    );
    assert!(!of("lost").pass && of("duplicated").pass && of("reordered").pass);
    assert_eq!(of("lost").line(), "FAIL  lost = 1 (== 0)");
    assert_eq!(
        of("idle.deliver_p99_ms").line(),
        "FAIL  idle.deliver_p99_ms = not measured (< 50)"
    );
}

#[test]
fn comparisons_hold_at_their_ends_and_never_of_what_is_no_number() {
    for (op, below, equal, above) in [
        (Op::Below, true, false, false),
        (Op::AtMost, true, true, false),
        (Op::Equal, false, true, false),
        (Op::AtLeast, false, true, true),
        (Op::Above, false, false, true),
    ] {
        assert_eq!(
            [op.holds(1.0, 2.0), op.holds(2.0, 2.0), op.holds(3.0, 2.0)],
            [below, equal, above],
            "{op:?}"
        );
        assert!(!op.holds(f64::NAN, 2.0), "{op:?}");
    }
}

#[test]
fn numbers_are_short() {
    for (value, wanted) in [
        (0.0, "0"),
        (0.01234, "0.012"),
        (1.5, "1.50"),
        (123.456, "123.5"),
        (1_234_567.8, "1,234,568"),
        (-1_500.5, "-1,500"),
        (f64::INFINITY, "never"),
    ] {
        assert_eq!(short(value), wanted);
    }
}

#[test]
fn memory_per_session_is_a_slope_between_holds_where_there_are_two() {
    let text = "[target]\nurl = \"ws://127.0.0.1:1/\"\nkey = \"k\"\nserver_pid = [1]\n[sessions]\ncount = 3000\n\
        [[phase]]\nkind = \"ramp\"\nto = 1000\nper_second = 50\n[[phase]]\nkind = \"hold\"\nseconds = 1\n\
        [[phase]]\nkind = \"ramp\"\nto = 3000\nper_second = 50\n[[phase]]\nkind = \"hold\"\nseconds = 1\n";
    let scenario = read::scenario(text, "s", &[]).expect("a scenario");
    let mut record = Record::default();
    let held = [
        (0, 10_000_000),
        (1_000, 50_000_000),
        (1_000, 50_000_000),
        (3_000, 60_000_000),
        (3_000, 60_000_000),
    ];
    for (at, (live, rss)) in held.into_iter().enumerate() {
        record.add(&Tick {
            at_s: at as f64,
            phase: at.saturating_sub(1),
            counts: Counts {
                live,
                ..Counts::default()
            },
            window: Window::default(),
            server: Some(Usage {
                rss,
                ..Usage::default()
            }),
            own: Usage::default(),
            workers: Vec::new(),
        });
    }
    let all = all(&scenario, &record, &End::default());
    assert_eq!(
        (
            all["hold.bytes_per_session"],
            all["hold2.bytes_per_session"]
        ),
        (40_000.0, 5_000.0)
    );
}
