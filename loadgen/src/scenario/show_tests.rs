use super::super::record::{Counts, Tick};
use super::super::{figures, read};
use super::*;
use crate::engine::Window;
use crate::usage::Usage;

#[test]
fn a_page_has_the_verdict_the_plots_and_the_scenario_and_stands_alone() {
    let text = "name = \"<b>evening</b>\"\n[target]\nurl = \"ws://127.0.0.1:1/\"\nkey = \"k\"\nserver_pid = [1]\n[sessions]\ncount = 100\n\
        [[phase]]\nkind = \"ramp\"\nto = 100\nper_second = 50\n[[phase]]\nkind = \"mix\"\nseconds = 3\nrate = 1\n\
        [[expect]]\nmetric = \"mix.deliver_p99_ms\"\nop = \"<\"\nvalue = 2\n";
    let scenario = read::scenario(text, "s", &[]).expect("a scenario");
    let mut record = Record::default();
    for at in 0..6_u32 {
        let mut window = Window::default();
        window.deliver.record(3_000_000);
        record.add(&Tick {
            at_s: f64::from(at),
            phase: usize::from(at > 2),
            counts: Counts {
                live: u64::from(at),
                ..Counts::default()
            },
            window,
            server: Some(Usage {
                rss: 1 << 20,
                ..Usage::default()
            }),
            own: Usage::default(),
            workers: Vec::new(),
        });
    }
    let end = End::default();
    let figures = figures::all(&scenario, &record, &end);
    let verdicts = figures::judge(&scenario, &figures);
    let machine = [("Cores", "2".to_owned())];
    let told = Told {
        scenario: &scenario,
        text,
        sets: &["a.b=c".to_owned()],
        began_ms: 1_709_164_800_000,
        machine: &machine,
        record: &record,
        end: &end,
        figures: &figures,
        verdicts: &verdicts,
    };
    assert!(!told.passes());
    let html = told.html();
    for wanted in [
        "&lt;b&gt;evening&lt;/b&gt;: FAILED",
        "mix.deliver_p99_ms",
        "2024-02-29 00:00 UTC",
        "--set a.b=c",
        "Memory of the server",
        "Latencies by quantile",
        "1 of 6 WERE NOT",
    ] {
        assert!(html.contains(wanted), "{wanted}");
    }
    for foreign in [
        "<script", "src=", "href=", "http://", "https://", "<b>", "NaN", "inf",
    ] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert!(
        html.matches("<svg").count() >= 6,
        "{}",
        html.matches("<svg").count()
    );
    assert!(
        told.text()
            .contains("FAIL  mix.deliver_p99_ms = 3.00 (< 2)"),
        "{}",
        told.text()
    );
    let json: serde_json::Value = serde_json::from_str(&told.json().expect("JSON")).expect("JSON");
    assert_eq!(json["pass"], false);
    assert!(
        (json["figures"]["mix.deliver_p99_ms"]
            .as_f64()
            .expect("a figure")
            - 3.0)
            .abs()
            < 0.01
    );
}

#[test]
fn days_are_those_of_the_calendar() {
    for (ms, wanted) in [
        (0, "1970-01-01 00:00 UTC"),
        (951_782_399_000, "2000-02-28 23:59 UTC"),
        (951_782_400_000, "2000-02-29 00:00 UTC"),
        (1_767_225_599_000, "2025-12-31 23:59 UTC"),
    ] {
        assert_eq!(date(ms), wanted);
    }
}
