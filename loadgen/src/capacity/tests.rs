//! Values calculated by hand, and what holds whatever is given.

use proptest::prelude::*;

use super::Plan;
use super::findings::Level;
use super::formula::Class;
use super::input::{Input, InputError, Origin};
use super::keys;
use super::preset;
use super::show::{html, json, markdown, needs, text};

fn plan_of(name: &str, changes: &[(&str, f64)]) -> Plan {
    let preset = preset::named(name).expect("a preset");
    let mut input = Input::default();
    for (key, value) in preset.values.iter().chain(changes) {
        input.set(key, *value, Origin::Flag).expect(key);
    }
    Plan::new(input, Some(preset)).expect("a plan")
}

fn mixed(mix: &str, changes: &[(&str, f64)]) -> Plan {
    let mut input = Input::default();
    input.set_mix_text(mix, Origin::Flag).expect("a mix");
    for (key, value) in changes {
        input.set(key, *value, Origin::Flag).expect(key);
    }
    Plan::new(input, None).expect("a plan")
}

/// Equal to so many digits as the hand-calculated value has.
fn near(plan: &Plan, name: &str, wanted: f64, part: f64) {
    let value = plan.value(name);
    assert!(
        (value - wanted).abs() <= wanted.abs() * part + 1e-9,
        "{name} = {value}, by hand {wanted}"
    );
}

#[test]
fn twenty_million_users_come_out_as_calculated_by_hand() {
    let plan = plan_of("20m", &[]);
    for (name, wanted, part) in [
        ("messages_per_day", 400e6, 1e-12),
        ("message_bytes_per_day", 2e12, 1e-12),
        ("mean_messages_per_s", 4_630.0, 1e-4),
        ("peak_messages_per_s", 46_300.0, 1e-3),
        ("peak_message_bytes_per_s", 231e6, 3e-3),
        ("chat_log_disk_bytes", 42e12, 1e-12),
        ("chat_log_replicated_bytes_per_s", 694e6, 1e-3),
        ("mean_recipients", 4.1, 1e-12),
        ("offline_users", 15e6, 1e-12),
        ("pushes_one_to_one_per_s", 34_700.0, 1e-3),
        ("presence_refreshes_per_s", 167_000.0, 3e-3),
        ("receipt_events_one_to_one_per_s", 139_000.0, 1e-3),
        ("heartbeats_per_s", 167_000.0, 3e-3),
        ("brokers_by_write_chat_only", 4.0, 0.0),
        ("brokers_by_traffic_chat_only", 10.0, 0.0),
        ("store_bytes", 180e12, 1e-12),
        ("store_nodes", 90.0, 0.0),
        ("edge_nodes", 10.0, 0.0),
        ("sessions_per_node", 500e3, 1e-12),
        ("sessions_per_node_after_loss", 556e3, 1e-3),
        ("delivery_partitions", 1_024.0, 0.0),
        ("required_one_per_s_core", 116.0, 3e-3),
        ("required_all_per_s_core", 260.0, 3e-3),
        ("blast_node_share", 0.1, 1e-12),
        ("blast_cell_share", 1.0, 1e-12),
        ("drain_ms", 107_143.0, 1e-12),
    ] {
        near(&plan, name, wanted, part);
    }
    assert_eq!(
        plan.bound("edge_nodes").expect("a bound").words,
        "connections per node"
    );
    near(
        &plan_of("20m", &[("store_tb_per_node", 4.0)]),
        "store_nodes_by_disk",
        45.0,
        0.0,
    );
    near(
        &plan_of("20m", &[("edge_connections_max", 1e6)]),
        "edge_nodes",
        6.0,
        0.0,
    );
}

#[test]
fn two_hundred_million_users_are_ten_cells() {
    let plan = plan_of("200m", &[]);
    for (name, wanted, part) in [
        ("cells", 10.0, 0.0),
        ("total_messages_per_day", 4e9, 1e-12),
        ("total_peak_messages_per_s", 463e3, 1e-3),
        ("total_peak_message_bytes_per_s", 2.31e9, 3e-3),
        ("total_chat_log_replicated_bytes_per_s", 6.94e9, 1e-3),
        ("total_chat_log_disk_bytes", 1.8e15, 1e-12),
        ("total_store_bytes", 1.8e15, 1e-12),
        ("total_store_nodes", 900.0, 0.0),
        ("total_edge_nodes", 100.0, 0.0),
        ("blast_cell_share", 0.1, 1e-12),
        ("blast_node_share", 0.01, 1e-12),
        // By hand: 0.9 × 0.9 + 0.09 × 9 × (1 − 0.9^19) + 0.01 × 9 × (1 − 0.9^149).
        ("intercell_copies_per_message", 1.6006, 1e-4),
    ] {
        near(&plan, name, wanted, part);
    }
    let one_copy = plan.value("history_bytes") * plan.value("cells");
    assert!(
        (one_copy - 600e12).abs() < 1.0,
        "600 TB logical: {one_copy}"
    );
    let kept = plan_of("200m", &[("cell_affinity", 1.0)]);
    near(&kept, "intercell_copies_per_message", 0.0, 0.0);
    near(
        &kept,
        "records_per_message",
        plan_of("20m", &[]).value("records_per_message"),
        1e-9,
    );
}

#[test]
fn fan_out_is_as_calculated_by_hand() {
    near(&mixed("1:2", &[]), "mean_recipients", 1.0, 1e-12);
    near(&mixed("0.7:2,0.3:100", &[]), "mean_recipients", 30.4, 1e-12);
    // 250 partitions of the original design are no power of two: 256 are nearest.
    let plan = mixed(
        "0.9:2,0.09:20,0.01:150",
        &[
            ("partitions", 256.0),
            ("record_bytes", 0.0),
            ("recipient_bytes", 0.0),
        ],
    );
    near(&plan, "records_per_message", 4.7, 1e-2);
    near(&plan, "delivery_all_inline_bytes_per_s", 1.08e9, 1e-2);
    // Ten nodes: 0.9 × 1.9 + 0.09 × 8.784 + 0.01 × 10.
    near(
        &plan_of("20m", &[]),
        "records_per_message_by_node",
        2.6006,
        1e-4,
    );
    near(
        &mixed("1:100", &[]),
        "records_per_message_by_recipient",
        100.0,
        0.0,
    );
    // docs/performance.md, measured by hawser-sim fan-out: 95.1 records, 6,276 bytes by reference, 33,361 inline.
    let large = mixed("1:100", &[]);
    near(&large, "records_per_message", 95.1, 5e-3);
    near(&large, "delivery_bytes_per_message", 6_276.0, 2e-2);
    near(
        &mixed("1:100", &[("message_bytes", 318.0)]),
        "delivery_bytes_per_message",
        33_361.0,
        2e-2,
    );
}

#[test]
fn a_reference_needs_size_and_a_group() {
    for (mix, bytes, inline) in [
        ("1:3", 1_025.0, false),
        ("1:3", 1_024.0, true),
        ("1:2", 5_000.0, true),
    ] {
        let plan = mixed(mix, &[("message_bytes", bytes)]);
        let all = plan.value("records_per_message") - plan.value("inline_records_per_message");
        assert_eq!(all.abs() < 1e-12, inline, "{mix} {bytes}");
        assert_eq!(plan.value("bodies_bytes_per_s") > 0.0, !inline);
    }
    let never = mixed("1:3", &[("reference_bytes", 0.0)]);
    assert!(never.value("bodies_bytes_per_s").abs() < 1e-12);
}

#[test]
fn every_bound_of_edge_nodes_can_bind_and_is_named() {
    for (changes, wanted) in [
        (vec![("edge_ram_gb", 12.0)], "memory"),
        (vec![("cpu_us_one_to_one", 5_000.0)], "CPU"),
        (
            vec![("edge_nic_gbit_per_s", 1.0), ("edge_connections_max", 5e6)],
            "network card",
        ),
        (vec![], "connections per node"),
    ] {
        let plan = mixed("1:2", &changes);
        let bound = plan.bound("edge_nodes").expect("a bound");
        assert_eq!(bound.words, wanted, "{bound:?}");
        let largest = bound
            .candidates
            .iter()
            .map(|one| one.value)
            .fold(0.0, f64::max);
        near(&plan, "edge_nodes", largest + 1.0, 0.0);
    }
}

#[test]
fn what_does_not_go_is_said() {
    let said = |changes: &[(&str, f64)]| {
        let plan = mixed("1:2", changes);
        let short = plan
            .findings
            .iter()
            .filter(|finding| finding.level == Level::Short);
        short
            .map(|finding| finding.text.clone())
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(
        said(&[]).contains("push has to tell of 3.472 messages"),
        "{}",
        said(&[])
    );
    let enough = said(&[("push_coalescing", 4.0)]);
    assert_eq!(enough, "");
    for (changes, wanted) in [
        ([("reconnect_one_s", 1.0)], "reconnect_one_s"),
        ([("accepts_per_s_core", 10.0)], "reconnect_all_s"),
        ([("partitions", 64.0)], "fewer than 4 for each core"),
        ([("log_replication", 2.0)], "log_replication = 2"),
        ([("edge_losses", 0.0)], "edge_losses = 0"),
        ([("drain_window_s", 400.0)], "node.drain_ms is at most"),
    ] {
        assert!(
            said(&changes).contains(wanted),
            "{wanted}: {}",
            said(&changes)
        );
    }
}

#[test]
fn where_no_number_of_nodes_suffices_the_key_is_named() {
    let mut input = Input::default();
    for (key, value) in [
        ("users", 1e10),
        ("cell_users_max", 1e10),
        ("messages_per_user_day", 1e4),
    ] {
        input.set(key, value, Origin::Flag).expect(key);
    }
    let fault = Plan::new(input, None).expect_err("too much");
    assert!(matches!(fault, InputError::Impossible { .. }));
    assert!(fault.to_string().contains("cell_users_max"), "{fault}");
}

#[test]
fn all_forms_hold_every_figure() {
    for name in ["20m", "200m"] {
        let plan = plan_of(name, &[]);
        let (text, markdown, html) = (
            text::text(&plan, true),
            markdown::markdown(&plan),
            html::html(&plan),
        );
        let json = json::json(&plan);
        for figure in plan.sections.iter().flat_map(|section| &section.figures) {
            let escaped = crate::page::escaped(&figure.shown);
            assert!(
                text.contains(&figure.shown) && text.contains(figure.name),
                "{}",
                figure.name
            );
            assert!(
                markdown.contains(&format!("`{}` = ", figure.name)),
                "{}",
                figure.name
            );
            assert!(
                html.contains(figure.name) && html.contains(&escaped),
                "{}",
                figure.name
            );
            assert!(json["figures"][figure.name].is_number(), "{}", figure.name);
        }
        assert_eq!(
            json["input"].as_object().map(serde_json::Map::len),
            Some(keys::all().count())
        );
        let needed = json["needed"]["edge_nodes"]["total"].as_f64();
        assert_eq!(needed, Some(plan.value("total_edge_nodes")));
        assert_eq!(needs(&plan).len(), 5);
        for foreign in ["http://", "https://", "<script", "src=", "@import", "NaN"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
        assert!(html.matches("<svg").count() >= 7);
    }
}

#[test]
fn every_figure_that_a_preset_compares_exists() {
    for preset in &preset::PRESETS {
        let plan = plan_of(preset.name, &[]);
        for name in preset.said.iter().flat_map(|said| said.figures) {
            assert!(plan.figure(name).is_some(), "{name}");
        }
    }
}

/// Any valid input: each key at random between its bounds, most by their logarithm.
fn any_input() -> impl Strategy<Value = Input> {
    let count = keys::all().count();
    let mix = proptest::collection::vec((0.01..1.0, 2_u32..200_000), 1..6);
    (proptest::collection::vec(0.0..=1.0, count), mix).prop_map(|(at, mix)| {
        let mut input = Input::default();
        for (key, at) in keys::all().zip(at) {
            let low = key.min.max(key.max / 1e9);
            let value = if at < 0.02 {
                key.min
            } else {
                low * (key.max / low).powf(at)
            };
            let value = if key.whole { value.round() } else { value };
            let value = value.clamp(key.min, key.max);
            let value = match key.name {
                "partitions" | "partitions_min" => super::formula::pow2(value).min(65_536.0),
                _ => value,
            };
            input.set(key.name, value, Origin::Flag).expect(key.name);
        }
        let sum: f64 = mix.iter().map(|(share, _)| share).sum();
        let classes = mix.into_iter().map(|(share, members)| Class {
            share: share / sum,
            members: f64::from(members),
        });
        input
            .set_mix(classes.collect(), Origin::Flag)
            .expect("a mix");
        input
    })
}

/// An input that can be planned: what cannot be together is put right.
fn possible(mut input: Input) -> Input {
    let (short, long) = (
        input.value("cpu_us_delivery_200"),
        input.value("cpu_us_delivery_5k"),
    );
    let set =
        |input: &mut Input, key: &str, value: f64| input.set(key, value, Origin::Flag).expect(key);
    set(&mut input, "cpu_us_delivery_5k", long.max(short));
    let largest = input.mix().0.iter().map(|class| class.members);
    let users = largest.fold(input.value("users"), f64::max);
    set(&mut input, "users", users);
    let room = input.value("edge_ram_gb") * input.value("memory_target");
    let fixed = input.value("edge_fixed_gb").min(room / 2.0);
    set(&mut input, "edge_fixed_gb", fixed);
    input
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Each figure asserts that it is a number that is zero or more; none of them is filled in with what is none.
    #[test]
    fn any_valid_input_gives_numbers_or_a_fault_with_a_way_out(input in any_input()) {
        match Plan::new(possible(input), None) {
            Ok(plan) => {
                for figure in plan.sections.iter().flat_map(|section| &section.figures) {
                    prop_assert!(figure.value.is_finite() && figure.value >= 0.0, "{}", figure.name);
                    prop_assert!(!figure.filled.contains("NaN"), "{}", figure.filled);
                }
                prop_assert!(plan.value("edge_nodes") >= 1.0 && plan.value("brokers") >= 1.0);
            }
            Err(fault) => prop_assert!(matches!(fault, InputError::Impossible { .. }), "{fault}"),
        }
    }

    #[test]
    fn more_users_never_need_fewer_nodes(input in any_input(), more in 1.0..50.0_f64) {
        let mut input = possible(input);
        let users = input.value("users");
        input.set("partitions", 0.0, Origin::Flag).expect("by the rule");
        let Ok(few) = Plan::new(input.clone(), None) else { return Ok(()) };
        input.set("users", (users * more).ceil().min(1e10), Origin::Flag).expect("users");
        let Ok(many) = Plan::new(input, None) else { return Ok(()) };
        for name in ["total_edge_nodes", "total_store_nodes", "total_redis_nodes", "total_ingest_nodes"] {
            prop_assert!(many.value(name) >= few.value(name), "{name}: {} then {}", few.value(name), many.value(name));
        }
        // Smaller cells can have fewer partitions, and a giant group touches fewer of those: brokers are compared within a cell.
        if few.value("cells") <= 1.0 && many.value("cells") <= 1.0 {
            prop_assert!(many.value("brokers") >= few.value("brokers"));
        }
    }

    #[test]
    fn the_largest_bound_is_what_is_needed(input in any_input()) {
        let input = possible(input);
        let losses = input.value("edge_losses");
        if let Ok(plan) = Plan::new(input, None) {
            let bound = plan.bound("edge_nodes").expect("a bound");
            let largest = bound.candidates.iter().map(|one| one.value).fold(0.0, f64::max);
            prop_assert_eq!(plan.value("edge_nodes"), largest + losses);
            prop_assert_eq!(plan.value(bound.bound_by), largest);
        }
    }
}
