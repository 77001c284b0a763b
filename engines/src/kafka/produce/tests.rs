//! Outcomes, what waits for them, and the gate.

use super::*;
use crate::log::Stream;
use std::sync::mpsc::{Sender, channel};

struct Told(Mutex<Sender<(u64, AppendOutcome)>>);

/// The same, of records that are one stream.
struct InStream(Told, Stream);

impl Appended for InStream {
    fn appended(&self, tag: u64, outcome: AppendOutcome) {
        self.0.appended(tag, outcome);
    }

    fn stream(&self) -> Option<&Stream> {
        Some(&self.1)
    }
}

impl Appended for Told {
    fn appended(&self, tag: u64, outcome: AppendOutcome) {
        let sender = self.0.lock().expect("no holder panics");
        sender.send((tag, outcome)).expect("the test listens");
    }
}

const VALUE: &[u8] = b"12345678";

fn pending_at(door: &Arc<Door>, tag: u64, done: &Arc<dyn Appended>) -> Arc<Pending> {
    Arc::new(Pending {
        tag,
        done: Arc::clone(done),
        since: Instant::now(),
        answered: AtomicBool::new(false),
        door: Arc::clone(door),
        bytes: VALUE.len(),
        base: 0,
    })
}

fn native(code: RDKafkaErrorCode) -> Native {
    Native::MessageProduction(code)
}

#[test]
fn a_repeated_batch_has_no_offsets_and_the_next_one_has() {
    let offsets = Offsets::default();
    assert_eq!(offsets.real("a", 0, 7), Some(7));
    // Three records that the broker had already, of an empty partition; another partition goes on meanwhile.
    for counted in [-1, 0, 1] {
        assert_eq!(offsets.real("a", 1, counted), None);
        assert_eq!(
            offsets.real("a", 0, 8 + counted),
            u64::try_from(8 + counted).ok()
        );
    }
    // The next batch begins behind them: 3 at the least.
    assert_eq!(offsets.real("a", 1, 3), Some(3));
    assert_eq!(offsets.real("a", 1, 4), Some(4));
    // Twice in a row, then one that is new.
    for counted in [-1, 0, -1, 0, 1] {
        assert_eq!(offsets.real("b", 1, counted), None);
    }
    assert_eq!(offsets.real("b", 1, 5), Some(5));
    assert!(!offsets.any.load(Ordering::Relaxed));
}

#[test]
fn what_may_have_been_appended_is_unknown_and_what_was_not_is_refused() {
    use RDKafkaErrorCode as Code;
    for code in [
        Code::MessageTimedOut,
        Code::RequestTimedOut,
        Code::NotEnoughReplicasAfterAppend,
        Code::PurgeInflight,
        Code::BrokerTransportFailure,
        Code::OutOfOrderSequenceNumber,
    ] {
        let got = outcome(&native(code));
        assert!(matches!(got, ProduceError::Unknown { .. }), "{code}");
    }
    for code in [
        Code::PurgeQueue,
        Code::MessageSizeTooLarge,
        Code::InvalidTimestamp,
        Code::TopicAuthorizationFailed,
    ] {
        let got = outcome(&native(code));
        assert!(matches!(got, ProduceError::Refused { .. }), "{code}");
    }
    let full = not_taken(&native(Code::QueueFull));
    assert_eq!(full, refused("the queue to Kafka is full", FULL_RETRY_MS));
}

#[test]
fn giving_up_answers_the_late_ones_once_and_in_order() {
    let (sender, told) = channel();
    let done: Arc<dyn Appended> = Arc::new(Told(Mutex::new(sender)));
    let waiting = Waiting::default();
    let door = Gate::new(8, 8).door("a", 0);
    for tag in 0..3 {
        let pending = pending_at(&door, tag, &done);
        waiting.lock().push_back(pending);
    }
    let first = Arc::clone(&waiting.lock()[0]);
    first.answer(Ok(Some(9)));
    assert_eq!(told.recv().expect("an outcome"), (0, Ok(Some(9))));
    assert!(waiting.oldest().is_some(), "the second waits");
    assert_eq!(waiting.lock().len(), 2, "the answered one has left");
    waiting.give_up(Duration::from_secs(3_600), "late");
    assert_eq!(waiting.lock().len(), 2, "not late");
    waiting.give_up(Duration::ZERO, "late");
    for tag in 1..3 {
        let (got, outcome) = told.recv().expect("an outcome");
        assert_eq!(got, tag);
        assert!(matches!(outcome, Err(ProduceError::Unknown { .. })));
    }
    first.answer(Ok(Some(10)));
    assert!(told.try_recv().is_err(), "one outcome each");
    assert_eq!(waiting.oldest(), None);
}

fn parked(door: &Arc<Door>, tag: u64, done: &Arc<dyn Appended>) -> Parked {
    Parked {
        record: Produce {
            topic: crate::log::Topic::Delivery,
            partition: 0,
            key: bytes::Bytes::new(),
            value: bytes::Bytes::from_static(VALUE),
            timestamp_ms: 1,
        },
        pending: pending_at(door, tag, done),
    }
}

#[test]
fn two_records_of_a_partition_go_alone_and_those_behind_them_together_in_order() {
    let (sender, told) = channel();
    let done: Arc<dyn Appended> = Arc::new(Told(Mutex::new(sender)));
    let gate = Gate::new(8, 100);
    let door = gate.door("a", 0);
    let (mut sent, batch) = (
        Vec::new(),
        Batch {
            records_max: 10,
            bytes_max: 24,
        },
    );
    let mut send = |parked: &Parked| -> Result<(), ProduceError> {
        sent.push(parked.pending.tag);
        Ok(())
    };
    for tag in 0..8 {
        let entered = door.enter(parked(&door, tag, &done), &mut send);
        assert_eq!(entered, Ok(()));
    }
    assert!(!door.left(), "one is still on its way");
    assert!(door.open(batch, &mut send).is_empty());
    assert!(door.left(), "the way is free");
    // Three of eight bytes each; another one is not enqueued past the five that wait.
    assert!(door.open(batch, &mut send).is_empty());
    assert_eq!(door.enter(parked(&door, 8, &done), &mut send), Ok(()));
    for _ in 0..2 {
        assert!(!door.left());
    }
    assert!(door.left());
    let broken = |parked: &Parked| match parked.pending.tag {
        5 => Err(refused("no", 1)),
        _ => Ok(()),
    };
    let refused = door.open(batch, broken);
    assert_eq!(refused.len(), 1, "the others go on");
    assert!(matches!(&refused[0], (parked, Some(_)) if parked.pending.tag == 5));
    assert_eq!(sent, [0, 1, 2, 3, 4]);
    assert!(told.try_recv().is_err(), "whoever opens answers");
}

#[test]
fn what_was_answered_while_it_waited_is_not_sent_and_the_late_are_taken_out() {
    let (sender, told) = channel();
    let done: Arc<dyn Appended> = Arc::new(Told(Mutex::new(sender)));
    let gate = Gate::new(4, 32);
    let door = gate.door("a", 3);
    let mut sent = Vec::new();
    let mut send = |parked: &Parked| -> Result<(), ProduceError> {
        sent.push(parked.pending.tag);
        Ok(())
    };
    for tag in 0..5 {
        assert_eq!(gate.admit(8), tag < 4, "four fit");
        if tag < 4 {
            let parked = parked(&door, tag, &done);
            if tag == 2 {
                parked.pending.answer(Ok(None));
            }
            assert_eq!(door.enter(parked, &mut send), Ok(()));
        }
    }
    assert!(!door.left());
    assert!(door.left());
    let batch = Batch {
        records_max: 1,
        bytes_max: 100,
    };
    let skipped = door.open(batch, &mut send);
    assert!(matches!(&skipped[..], [(parked, None)] if parked.pending.tag == 2));
    for tag in 4..6 {
        assert_eq!(door.enter(parked(&door, tag, &done), &mut send), Ok(()));
    }
    assert!(gate.late(Duration::from_secs(3_600)).is_empty());
    std::thread::sleep(Duration::from_millis(2));
    let late = gate.late(Duration::from_millis(1));
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].pending.tag, 5);
    assert_eq!(sent, [0, 1, 3, 4]);
    assert!(Arc::ptr_eq(&door, &gate.door("a", 3)));
    assert_eq!(told.try_recv(), Ok((2, Ok(None))));
}

#[test]
fn nothing_of_a_stream_is_sent_behind_a_record_that_failed_and_others_are() {
    let (sender, told) = channel();
    let alone: Arc<dyn Appended> = Arc::new(Told(Mutex::new(sender.clone())));
    let stream = || -> Arc<dyn Appended> {
        Arc::new(InStream(
            Told(Mutex::new(sender.clone())),
            Stream::default(),
        ))
    };
    let (first, second) = (stream(), stream());
    let door = Gate::new(16, 1_024).door("a", 0);
    let mut sent = Vec::new();
    let mut send = |parked: &Parked| -> Result<(), ProduceError> {
        whole(&parked.pending)?;
        sent.push(parked.pending.tag);
        Ok(())
    };
    let failing = parked(&door, 0, &first);
    let pending = Arc::clone(&failing.pending);
    let others = [(1, &alone), (2, &first), (3, &second), (4, &first)];
    assert_eq!(door.enter(failing, &mut send), Ok(()));
    for (tag, done) in others {
        assert_eq!(door.enter(parked(&door, tag, done), &mut send), Ok(()));
    }
    pending.answer(Err(refused("no", 1)));
    assert!(!door.left() && door.left());
    let batch = Batch {
        records_max: 10,
        bytes_max: 1_024,
    };
    let refused_tags: Vec<u64> = door
        .open(batch, &mut send)
        .iter()
        .map(|(parked, error)| {
            assert!(error.is_some());
            parked.pending.tag
        })
        .collect();
    assert_eq!(refused_tags, [2, 4]);
    assert!(door.enter(parked(&door, 5, &first), &mut send).is_err());
    assert_eq!(door.enter(parked(&door, 6, &second), &mut send), Ok(()));
    assert_eq!(sent, [0, 1, 3, 6]);
    assert_eq!(told.try_recv().map(|(tag, _)| tag), Ok(0));
}

#[test]
fn a_record_that_stands_for_itself_is_given_up_and_one_of_a_stream_is_not() {
    let (sender, _told) = channel();
    let alone: Arc<dyn Appended> = Arc::new(Told(Mutex::new(sender.clone())));
    let stream: Arc<dyn Appended> = Arc::new(InStream(Told(Mutex::new(sender)), Stream::default()));
    let gate = Gate::new(16, 1_024);
    for (name, done, given_up) in [("a", &alone, 2), ("b", &stream, 0)] {
        let door = gate.door(name, 0);
        for tag in 0..4 {
            assert!(gate.admit(VALUE.len()));
            let entered = door.enter(parked(&door, tag, done), |_| Ok::<(), ()>(()));
            assert_eq!(entered, Ok(()));
        }
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(
            gate.late(Duration::from_millis(1)).len(),
            given_up,
            "{name}"
        );
    }
    // Given up by who waits for it: what is behind the door stays there until it opens, and is refused then.
    stream.break_off();
    let door = gate.door("b", 0);
    assert!(!door.left() && door.left());
    let batch = Batch {
        records_max: 10,
        bytes_max: 1_024,
    };
    let refused = door.open(batch, |parked| whole(&parked.pending));
    assert_eq!(refused.len(), 2);
}
