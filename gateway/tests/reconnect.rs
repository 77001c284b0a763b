//! A reconnect touches no database (G11): the adapters of store, directory and presence count who asks them.

mod support;

use hawser_engines::directory::{
    Device, Directory, DirectoryError, Group, GroupDelta, Revocation, User,
};
use hawser_engines::presence::{Presence, PresenceStore};
use hawser_engines::store::{
    ChatHead, ChatInfo, DedupRow, Membership, Page, ReceiptRow, Store, StoreError, StoreOp,
    StoredMessage,
};
use hawser_gateway::counters::Counter;
use hawser_protocol::frame::{ClientFrame, ServerFrame};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use hawser_protocol::pb;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use support::client::{Client, Resume};
use support::{Node, dm};

/// Counts the calls of an adapter.
struct Counted<T: ?Sized> {
    calls: Arc<AtomicU64>,
    inner: Arc<T>,
}

impl<T: ?Sized> Counted<T> {
    fn asked(&self) -> &T {
        self.calls.fetch_add(1, Ordering::SeqCst);
        &self.inner
    }
}

impl Store for Counted<dyn Store> {
    fn write(&self, ops: &[StoreOp]) -> Result<(), StoreError> {
        self.asked().write(ops)
    }
    fn head(&self, chat: &ChatId) -> Result<ChatHead, StoreError> {
        self.asked().head(chat)
    }
    fn head_before(&self, chat: &ChatId, seq: Seq) -> Result<ChatHead, StoreError> {
        self.asked().head_before(chat, seq)
    }
    fn dedup(
        &self,
        user: &UserId,
        device: &DeviceId,
        chat: &ChatId,
        id: &ClientMsgId,
    ) -> Result<Option<DedupRow>, StoreError> {
        self.asked().dedup(user, device, chat, id)
    }
    fn messages(&self, chat: &ChatId, page: Page) -> Result<Vec<StoredMessage>, StoreError> {
        self.asked().messages(chat, page)
    }
    fn truncated_before(&self, chat: &ChatId) -> Result<u64, StoreError> {
        self.asked().truncated_before(chat)
    }
    fn chat(&self, chat: &ChatId) -> Result<Option<ChatInfo>, StoreError> {
        self.asked().chat(chat)
    }
    fn members(&self, chat: &ChatId) -> Result<Vec<Membership>, StoreError> {
        self.asked().members(chat)
    }
    fn member(&self, chat: &ChatId, user: &UserId) -> Result<Option<Membership>, StoreError> {
        self.asked().member(chat, user)
    }
    fn chats_of(
        &self,
        user: &UserId,
        after: Option<&ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatId>, StoreError> {
        self.asked().chats_of(user, after, limit)
    }
    fn receipts(&self, chat: &ChatId) -> Result<Vec<ReceiptRow>, StoreError> {
        self.asked().receipts(chat)
    }
}

impl Directory for Counted<dyn Directory> {
    fn create_user(&self, user: &User) -> Result<(), DirectoryError> {
        self.asked().create_user(user)
    }
    fn update_user(&self, user: &User) -> Result<(), DirectoryError> {
        self.asked().update_user(user)
    }
    fn user(&self, id: &UserId) -> Result<Option<User>, DirectoryError> {
        self.asked().user(id)
    }
    fn users(&self, after: Option<&UserId>, limit: usize) -> Result<Vec<User>, DirectoryError> {
        self.asked().users(after, limit)
    }
    fn user_by_phone(&self, phone: &str) -> Result<Option<User>, DirectoryError> {
        self.asked().user_by_phone(phone)
    }
    fn put_device(&self, user: &UserId, device: &Device) -> Result<(), DirectoryError> {
        self.asked().put_device(user, device)
    }
    fn device(&self, user: &UserId, device: &DeviceId) -> Result<Option<Device>, DirectoryError> {
        self.asked().device(user, device)
    }
    fn devices(&self, user: &UserId) -> Result<Vec<Device>, DirectoryError> {
        self.asked().devices(user)
    }
    fn apply_group(&self, group: &Group, write_seq: Seq) -> Result<(), DirectoryError> {
        self.asked().apply_group(group, write_seq)
    }
    fn touch_group(&self, delta: &GroupDelta, write_seq: Seq) -> Result<(), DirectoryError> {
        self.asked().touch_group(delta, write_seq)
    }
    fn group(&self, chat: &ChatId) -> Result<Option<Group>, DirectoryError> {
        self.asked().group(chat)
    }
    fn delete_user(&self, id: &UserId) -> Result<(), DirectoryError> {
        self.asked().delete_user(id)
    }
    fn put_revocation(&self, revocation: &Revocation) -> Result<u64, DirectoryError> {
        self.asked().put_revocation(revocation)
    }
    fn revocations_after(
        &self,
        cursor: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Revocation)>, DirectoryError> {
        self.asked().revocations_after(cursor, limit)
    }
}

/// Reads are counted. That somebody is online is told in batches beside the path, and on a reconnect not at all.
impl PresenceStore for Counted<dyn PresenceStore> {
    fn refresh(&self, users: &[UserId], now_ms: u64) -> Vec<UserId> {
        self.inner.refresh(users, now_ms)
    }
    fn leave(&self, user: &UserId, now_ms: u64) {
        self.inner.leave(user, now_ms);
    }
    fn get(&self, users: &[UserId], now_ms: u64) -> Vec<Presence> {
        self.asked().get(users, now_ms)
    }
    fn expired(&self, now_ms: u64) -> Vec<UserId> {
        self.inner.expired(now_ms)
    }
    fn set_typing(&self, user: &UserId, chat: &ChatId, typing: bool, now_ms: u64) {
        self.asked().set_typing(user, chat, typing, now_ms);
    }
    fn typing(&self, chat: &ChatId, now_ms: u64) -> Vec<UserId> {
        self.asked().typing(chat, now_ms)
    }
}

#[test]
fn g11_a_reconnect_within_the_ring_asks_no_store_no_directory_and_no_presence() {
    const USERS: usize = 30;
    let node = Node::start();
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    let (beside, target) = node.beside_with(
        |services| {
            services.store = Arc::new(Counted {
                calls: counted.clone(),
                inner: services.store.clone(),
            });
            services.directory = Arc::new(Counted {
                calls: counted.clone(),
                inner: services.directory.clone(),
            });
            services.presence = Arc::new(Counted {
                calls: counted.clone(),
                inner: services.presence.clone(),
            });
        },
        |_| (),
    );
    let user = |n: usize| format!("user{n}");
    let mut clients: Vec<Client> = (0..USERS)
        .map(|n| node.live_at(&target, &user(n), "phone"))
        .collect();
    let mut alice = node.live("alice", "phone");
    for (n, client) in clients.iter_mut().enumerate() {
        let id = alice.send(&dm("alice", &user(n)), b"before");
        assert_eq!(alice.result(id).error, 0);
        client.deliver();
    }
    let places: Vec<Resume> = clients.iter().map(Client::resume).collect();
    drop(clients);
    for n in 0..USERS {
        let id = alice.send(&dm("alice", &user(n)), b"missed");
        assert_eq!(alice.result(id).error, 0);
    }
    let before = calls.load(Ordering::SeqCst);
    for (n, place) in places.into_iter().enumerate() {
        let token = node.token(&user(n), "phone");
        let mut client = Client::connect(&target, &token, "phone", place);
        assert!(client.welcome.recovered, "{n}");
        assert_eq!(&client.deliver().record.body[..], b"missed");
        client.caught_up();
    }
    assert_eq!(calls.load(Ordering::SeqCst), before, "calls by reconnects");
    let mut fresh = node.live_at(&target, &user(0), "tablet");
    fresh.send_frame(&ClientFrame::Sync(pb::Sync::default()));
    fresh.until(|frame| matches!(frame, ServerFrame::SyncPage(_)).then_some(()));
    assert!(calls.load(Ordering::SeqCst) > before, "a Sync does ask");
    assert_eq!(beside.counters().total(Counter::LagLogReads), 0);
    assert_eq!(beside.counters().total(Counter::Resumed), USERS as u64);
    beside.join().expect("a clean end");
}
