use super::*;
use crate::ids::ChatId;
use proptest::prelude::*;

const NOTHING: [u64; 0] = [];

fn key(seq: u64) -> BodyKey {
    BodyKey {
        source_partition: 3,
        seq: Seq::new(1, seq),
    }
}

fn body(fill: u8, len: usize) -> Body {
    Body::new(Bytes::from(vec![fill; len]))
}

fn fetch(seq: u64, body: &Body) -> Fetch {
    Fetch {
        key: key(seq),
        chat: ChatId::new("g:1").expect("a chat"),
        referred: Referred::to(seq, &body.record),
    }
}

fn due(bodies: &mut Bodies<u32>, now_ms: u64) -> Vec<u64> {
    let mut all = Vec::new();
    bodies.due(now_ms, |fetch| {
        all.push(fetch.key.seq.offset());
        true
    });
    all.sort_unstable();
    all
}

#[test]
fn a_body_is_found_by_its_place_and_only_if_it_is_what_is_meant() {
    let mut bodies: Bodies<u32> = Bodies::new(10_000);
    let (right, other) = (body(1, 50), body(2, 50));
    let referred = Referred::to(9, &right.record);
    assert_eq!(bodies.find(&key(9), &referred), Found::Missing);
    let _ = bodies.came(key(9), other);
    assert_eq!(bodies.find(&key(9), &referred), Found::Missing);
    let _ = bodies.came(key(9), right.clone());
    assert_eq!(bodies.find(&key(9), &referred), Found::Here(right.record));
    assert_eq!(bodies.find(&key(8), &referred), Found::Missing);
    assert_eq!(bodies.bytes(), 50 + ENTRY_OVERHEAD_BYTES);
}

#[test]
fn who_waits_goes_on_when_the_lane_brings_it_and_nothing_is_fetched() {
    let mut bodies = Bodies::new(10_000);
    let b = body(1, 50);
    assert!(bodies.want(fetch(5, &b), Some(7), 1_000));
    assert!(bodies.want(fetch(5, &b), Some(8), 1_010));
    assert_eq!(due(&mut bodies, 1_000 + LANE_WAIT_MS - 1), NOTHING);
    assert_eq!(bodies.came(key(5), b), [7, 8]);
    assert_eq!(bodies.wanted(), 0);
    assert_eq!(due(&mut bodies, 1_000 + LANE_WAIT_MS), NOTHING);
}

#[test]
fn what_the_lane_has_passed_is_fetched_at_once_and_asked_for_once() {
    let mut bodies = Bodies::new(10_000);
    let b = body(1, 50);
    let _ = bodies.came(key(6), body(9, 10));
    bodies.want(fetch(5, &b), Some(7), 1_000);
    bodies.want(fetch(8, &b), Some(7), 1_000);
    assert_eq!(due(&mut bodies, 1_000), [5]);
    assert_eq!(due(&mut bodies, 1_050), NOTHING, "the answer is under way");
    assert_eq!(due(&mut bodies, 1_000 + LANE_WAIT_MS), [8]);
    let waiting = bodies.fetched(key(5), Fetched::Body(b), 1_100, |_| true);
    assert_eq!(waiting, [7]);
    assert_eq!(
        due(&mut bodies, 1_000 + LANE_WAIT_MS + ANSWER_MS),
        [8],
        "its answer is lost"
    );
}

#[test]
fn a_store_that_is_away_is_asked_again_and_again_for_those_who_are_still_there() {
    let mut bodies = Bodies::new(10_000);
    let b = body(1, 50);
    bodies.want(fetch(5, &b), Some(7), 0);
    bodies.want(fetch(5, &b), Some(8), 0);
    let (mut now_ms, mut asked, mut pauses) = (0, 0, Vec::new());
    let mut last_ms = 0;
    while asked < 10 {
        if due(&mut bodies, now_ms) == [5] {
            asked += 1;
            pauses.push(now_ms - last_ms);
            last_ms = now_ms;
            let waiting = bodies.fetched(key(5), Fetched::Failed, now_ms, |who| *who == 8);
            assert_eq!(waiting, [0; 0]);
        }
        now_ms += 50;
    }
    assert_eq!(pauses[..4], [LANE_WAIT_MS, AGAIN_MS, 400, 800]);
    assert_eq!(pauses[9], AGAIN_MS_MAX);
    let waiting = bodies.fetched(key(5), Fetched::Body(b), now_ms, |_| true);
    assert_eq!(waiting, [8]);
    // And for nobody when nobody is left.
    let b = body(1, 50);
    bodies.want(fetch(6, &b), Some(7), now_ms);
    let _ = bodies.fetched(key(6), Fetched::Failed, now_ms, |_| false);
    assert_eq!(bodies.wanted(), 0);
}

#[test]
fn a_row_that_is_never_there_is_gone_after_some_looks() {
    let mut bodies = Bodies::new(10_000);
    let b = body(1, 50);
    let wanted = fetch(5, &b);
    let referred = wanted.referred;
    bodies.want(wanted, Some(7), 0);
    for _ in 1..ABSENT_MAX {
        assert_eq!(bodies.fetched(key(5), Fetched::Absent, 0, |_| true), [0; 0]);
        assert_eq!(bodies.find(&key(5), &referred), Found::Missing);
    }
    assert_eq!(bodies.fetched(key(5), Fetched::Absent, 0, |_| true), [7]);
    assert_eq!(bodies.find(&key(5), &referred), Found::Gone);
    // Another core's question is nothing to this one.
    assert_eq!(bodies.fetched(key(9), Fetched::Absent, 0, |_| true), [0; 0]);
}

#[test]
fn the_wanted_and_the_asked_are_bounded_and_the_rest_is_told() {
    let mut bodies = Bodies::new(10_000);
    let b = body(1, 50);
    for seq in 0..WANTED_MAX as u64 {
        assert!(bodies.want(fetch(seq, &b), Some(1), 0));
    }
    assert!(!bodies.want(fetch(1 << 20, &b), Some(2), 0));
    assert!(!bodies.want(fetch(1 << 21, &b), None, 0));
    assert_eq!(bodies.turned_away(), [2]);
    assert_eq!(bodies.turned_away(), [0; 0]);
    let first = due(&mut bodies, LANE_WAIT_MS);
    assert_eq!(first.len(), ASKED_MAX);
    assert_eq!(due(&mut bodies, LANE_WAIT_MS + 1), NOTHING);
    let _ = bodies.fetched(key(first[0]), Fetched::Body(b), LANE_WAIT_MS, |_| true);
    assert_eq!(
        due(&mut bodies, LANE_WAIT_MS + 2).len(),
        1,
        "an answer makes room for a question"
    );
}

#[test]
fn the_newest_body_is_kept_however_small_the_budget_is() {
    let mut bodies: Bodies<u32> = Bodies::new(0);
    for seq in 0..10 {
        let b = body(1, 500);
        let _ = bodies.came(key(seq), b.clone());
        let referred = Referred::to(seq, &b.record);
        assert_eq!(bodies.find(&key(seq), &referred), Found::Here(b.record));
        assert_eq!(bodies.bytes(), 500 + ENTRY_OVERHEAD_BYTES);
    }
    assert_eq!(bodies.evicted(), 9);
}

proptest! {
    #[test]
    fn the_budget_is_kept_and_the_latest_are_here(
        came in proptest::collection::vec((0u64..12, 0usize..400), 1..60),
    ) {
        let max = 2_000;
        let mut bodies: Bodies<u32> = Bodies::new(max);
        let mut model: Vec<(u64, Body)> = Vec::new();
        for (seq, len) in came {
            let b = body(7, len);
            let _ = bodies.came(key(seq), b.clone());
            match model.iter_mut().find(|(s, _)| *s == seq) {
                Some(known) => known.1 = b,
                None => model.push((seq, b)),
            }
            let cost = |b: &Body| b.record.len() + ENTRY_OVERHEAD_BYTES;
            while model.len() > 1 && model.iter().map(|(_, b)| cost(b)).sum::<usize>() > max {
                let oldest = model.remove(0);
                if oldest.0 == seq {
                    model.push(oldest);
                }
            }
            prop_assert_eq!(bodies.bytes(), model.iter().map(|(_, b)| cost(b)).sum::<usize>());
            for (seq, b) in &model {
                let referred = Referred::to(*seq, &b.record);
                prop_assert_eq!(bodies.find(&key(*seq), &referred), Found::Here(b.record.clone()));
            }
        }
    }
}
