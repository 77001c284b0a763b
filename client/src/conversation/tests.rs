use super::*;
use crate::store::tests::record_at;
use bytes::Bytes;
use hawser_protocol::client::{Batch, Mark as Risen};
use hawser_protocol::ids::UserId;

const GROUP: &str = "g:x";

fn lane(number: u8) -> ChatId {
    let group = ChatId::new(GROUP).expect("id");
    group.in_lane(number).expect("a lane")
}

/// A message of a lane; its text says which and when.
fn record(number: u8, ordinal: u64, stored_ts_ms: u64) -> MessageRecord {
    MessageRecord {
        stored_ts_ms,
        body: Bytes::from(format!("{number}-{ordinal}")),
        ..record_at(&lane(number), ordinal)
    }
}

fn change(number: u8, ordinal: u64, stored_ts_ms: u64) -> MessageRecord {
    MessageRecord {
        message_type: MessageType::MEMBERSHIP,
        ..record(number, ordinal, stored_ts_ms)
    }
}

fn texts(records: &[MessageRecord]) -> Vec<String> {
    let text = |r: &MessageRecord| String::from_utf8_lossy(&r.body).into_owned();
    records.iter().map(text).collect()
}

struct Disk {
    store: Store,
    _dir: tempfile::TempDir,
}

impl Disk {
    fn with(records: &[MessageRecord]) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::open(dir.path()).expect("open");
        let disk = Self { store, _dir: dir };
        disk.write(records);
        disk
    }

    fn write(&self, records: &[MessageRecord]) {
        let batch = Batch {
            records: records.to_vec(),
            ..Batch::default()
        };
        let me = UserId::new("alice").expect("id");
        self.store.write(&batch, &me).expect("write");
    }

    fn open(&self) -> Conversation {
        Conversation::open(&self.store, &lane(0)).expect("read")
    }

    /// The server answers, until nothing more is asked: it has all of these.
    fn answer(&self, open: &mut Conversation, all: &[MessageRecord], first: Vec<Ask>) {
        let mut asks = first;
        while let Some(Ask { chat, before }) = asks.pop() {
            let below = all.iter().filter(|r| r.chat == chat && r.ordinal < before);
            let below: Vec<MessageRecord> = below.cloned().collect();
            let told = below.len().saturating_sub(HISTORY_PAGE as usize);
            self.write(&below[told..]);
            let done = HistoryDone {
                chat,
                before_ordinal: before,
                at_start: told == 0,
                error: 0,
            };
            asks.extend(open.answered(&self.store, &done).expect("read"));
            asks.extend(open.fill(&self.store).expect("read"));
        }
    }
}

/// So many messages, dealt out to lanes unevenly, one a millisecond.
fn dealt(count: u64, lanes: u64) -> Vec<MessageRecord> {
    let mut ordinals = [0; 64];
    let deal = |at: u64| {
        let number = (at * at + 3 * at) % 7 % lanes;
        let ordinal = &mut ordinals[usize::try_from(number).expect("small")];
        *ordinal += 1;
        record(u8::try_from(number).expect("small"), *ordinal, at + 1)
    };
    (0..count).map(deal).collect()
}

#[test]
fn lanes_are_merged_by_the_time_of_storing_and_each_keeps_its_order() {
    let lanes = vec![
        vec![record(0, 1, 5), record(0, 2, 9)],
        // The clock of the lane's node went back once.
        vec![record(1, 1, 5), record(1, 2, 4), record(1, 3, 9)],
        vec![record(2, 1, 1)],
    ];
    assert_eq!(
        texts(&merge(&lanes)),
        ["2-1", "0-1", "1-1", "1-2", "0-2", "1-3"]
    );
}

#[test]
fn changes_of_the_group_are_shown_as_its_own_lane_tells_them() {
    let told = [change(0, 1, 1), change(1, 1, 2), record(1, 2, 3)];
    let disk = Disk::with(&told);
    let open = disk.open();
    assert_eq!(texts(open.messages()), ["0-1", "1-2"]);
    let newest: Vec<_> = open.newest().map(|(c, s)| (c.lane(), s.0)).collect();
    assert_eq!(newest, [(0, 10), (1, 20)]);
}

#[test]
fn paging_goes_down_through_every_lane_to_the_start_and_leaves_nothing_out() {
    let all = dealt(1_500, 4);
    let disk = Disk::with(&all[800..]);
    let mut open = disk.open();
    for _ in 0..100 {
        let shown = open.messages().len();
        assert_eq!(texts(open.messages()), texts(&all[all.len() - shown..]));
        if open.at_start() {
            break;
        }
        let asked = open.older(&disk.store).expect("read");
        disk.answer(&mut open, &all, asked.into_iter().collect());
    }
    assert_eq!(open.messages().len(), all.len());
    assert!(open.at_start() && !open.loading());
}

#[test]
fn a_lane_that_begins_meanwhile_takes_its_place_and_what_it_lacks_is_asked_for() {
    let mut all: Vec<_> = (1..=150).map(|n| record(0, n, n)).collect();
    let disk = Disk::with(&all);
    let mut open = disk.open();
    let shown = texts(open.messages());
    assert_eq!(shown.len(), 100);
    all.extend([record(1, 1, 80), record(1, 2, 90), record(1, 3, 200)]);
    let fresh = &all[152..];
    disk.write(fresh);
    open.put(&disk.store, fresh).expect("read");
    open.put(&disk.store, fresh).expect("read");
    let with = |more: &[&str]| {
        let more = more.iter().map(|s| (*s).to_owned());
        shown.iter().cloned().chain(more).collect::<Vec<_>>()
    };
    assert_eq!(texts(open.messages()), with(&["1-3"]));
    let asks = open.fill(&disk.store).expect("read");
    assert_eq!(asks.len(), 1);
    assert_eq!(open.fill(&disk.store).expect("read"), [], "asked once");
    disk.answer(&mut open, &all, asks);
    let whole = merge(&[all[50..150].to_vec(), all[150..].to_vec()]);
    assert_eq!(texts(open.messages()), texts(&whole));
}

#[test]
fn who_follows_the_newest_keeps_some_of_all_lanes_together_and_reads_the_others_again() {
    let all = dealt(2_000, 4);
    let disk = Disk::with(&all[..100]);
    let mut open = disk.open();
    for batch in all[100..].chunks(50) {
        disk.write(batch);
        open.put(&disk.store, batch).expect("read");
        open.trim();
    }
    let kept = open.messages().len();
    assert!((MESSAGES_KEPT..=MESSAGES_MAX).contains(&kept), "{kept}");
    assert_eq!(texts(open.messages()), texts(&all[all.len() - kept..]));
    while open.messages().len() < all.len() {
        assert_eq!(open.older(&disk.store).expect("read"), None);
        let shown = open.messages().len();
        assert_eq!(texts(open.messages()), texts(&all[all.len() - shown..]));
    }
}

#[test]
fn a_message_is_judged_with_the_watermarks_of_its_own_lane() {
    let disk = Disk::with(&[record(0, 1, 1), record(1, 1, 2)]);
    let batch = Batch {
        marks: vec![Risen {
            chat: lane(1),
            user: UserId::new("bob").expect("id"),
            delivered: Seq(10),
            read: Seq(10),
        }],
        ..Batch::default()
    };
    let me = UserId::new("alice").expect("id");
    disk.store.write(&batch, &me).expect("write");
    let mut open = disk.open();
    assert_eq!(open.mark(&lane(1), "bob").read, 10);
    assert_eq!(open.mark(&lane(0), "bob"), Mark::default());
    let risen = Mark {
        delivered: 10,
        read: 0,
    };
    open.put_mark(&lane(0), "bob", risen);
    open.put_mark(&ChatId::new("g:y").expect("id"), "carol", risen);
    assert_eq!(open.mark(&lane(0), "bob"), risen);
    assert_eq!(open.mark(&lane(0), "carol"), Mark::default());
}
