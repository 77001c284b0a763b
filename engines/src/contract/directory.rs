//! Facts of the `directory` port.

use super::{Fact, run, unique};
use crate::directory::{Device, Directory, DirectoryError, Group, GroupDelta, Revocation, User};
use hawser_protocol::ids::{ChatId, DeviceId, Seq, UserId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;

/// Runs all facts; `make` may give the same directory each time.
pub fn directory_suite(make: impl Fn() -> Arc<dyn Directory>) {
    run("directory", FACTS, make);
}

/// All facts.
pub const FACTS: &[Fact<dyn Directory>] = &[
    ("a_created_user_is_found_by_id_and_phone", created),
    ("an_id_and_a_phone_are_taken_once", taken),
    ("users_without_a_phone_do_not_collide", no_phone),
    ("updating_moves_the_phone_and_frees_the_old_one", update),
    ("updating_nobody_is_not_found", update_nobody),
    ("users_are_listed_in_order_and_page", list),
    ("devices_are_put_replaced_and_listed_per_user", devices),
    ("a_device_of_nobody_is_not_found", device_of_nobody),
    ("the_group_with_the_larger_write_seq_wins", groups),
    (
        "a_change_of_a_large_group_touches_whom_it_names_once_and_members_are_paged",
        touched,
    ),
    (
        "deleting_a_user_frees_id_and_phone_and_removes_devices",
        delete,
    ),
    ("of_many_that_create_one_id_at_once_one_wins", race),
    (
        "revocations_come_in_order_after_a_cursor_each_kind_as_it_was_put",
        revocations,
    ),
    (
        "a_revocation_is_extended_never_shortened_and_comes_again",
        revocation_extended,
    ),
    ("a_pardon_takes_the_place_of_a_users_revocation", pardon),
    (
        "revocations_put_at_once_are_all_read_by_a_reader_that_goes_on_from_its_cursor",
        revocations_at_once,
    ),
    ("a_cursor_beyond_the_list_starts_over", lost_cursor),
];

fn id() -> UserId {
    UserId::new(&unique()).expect("valid")
}

fn user(id: &UserId, phone: &str) -> User {
    User {
        user_id: id.as_str().to_owned(),
        name: "A name with ü".to_owned(),
        phone: phone.to_owned(),
        status: "busy".to_owned(),
        created_ms: 5,
        ..User::default()
    }
}

fn phone() -> String {
    format!("+{}", unique())
}

fn device(name: &str) -> Device {
    Device {
        device_id: name.to_owned(),
        platform: "web".to_owned(),
        ..Device::default()
    }
}

fn create(directory: &Arc<dyn Directory>, user: &User) {
    directory
        .create_user(user)
        .expect("a healthy directory creates");
}

fn created(directory: &Arc<dyn Directory>) {
    let (id, phone) = (id(), phone());
    assert_eq!(directory.user(&id), Ok(None));
    assert_eq!(directory.user_by_phone(&phone), Ok(None));
    create(directory, &user(&id, &phone));
    assert_eq!(directory.user(&id), Ok(Some(user(&id, &phone))));
    assert_eq!(directory.user_by_phone(&phone), Ok(Some(user(&id, &phone))));
}

fn taken(directory: &Arc<dyn Directory>) {
    let (a, phone_a) = (id(), phone());
    create(directory, &user(&a, &phone_a));
    let again = directory.create_user(&user(&a, &phone()));
    assert!(
        matches!(again, Err(DirectoryError::Taken { .. })),
        "{again:?}"
    );
    let b = id();
    let same = directory.create_user(&user(&b, &phone_a));
    assert_eq!(same, Err(DirectoryError::Taken { field: "phone" }));
    assert_eq!(directory.user(&b), Ok(None));
    create(directory, &user(&b, ""));
    let same = directory.update_user(&user(&b, &phone_a));
    assert_eq!(same, Err(DirectoryError::Taken { field: "phone" }));
    assert_eq!(directory.user(&b), Ok(Some(user(&b, ""))));
}

fn no_phone(directory: &Arc<dyn Directory>) {
    create(directory, &user(&id(), ""));
    create(directory, &user(&id(), ""));
    assert_eq!(directory.user_by_phone(""), Ok(None));
}

fn update(directory: &Arc<dyn Directory>) {
    let (a, b, old, new) = (id(), id(), phone(), phone());
    create(directory, &user(&a, &old));
    let mut changed = user(&a, &new);
    changed.banned = true;
    directory.update_user(&changed).expect("it exists");
    assert_eq!(directory.user(&a), Ok(Some(changed.clone())));
    assert_eq!(directory.user_by_phone(&new), Ok(Some(changed)));
    assert_eq!(directory.user_by_phone(&old), Ok(None));
    create(directory, &user(&b, &old));
}

fn update_nobody(directory: &Arc<dyn Directory>) {
    let outcome = directory.update_user(&user(&id(), ""));
    assert_eq!(outcome, Err(DirectoryError::NotFound));
}

fn list(directory: &Arc<dyn Directory>) {
    let base = unique();
    let ids: Vec<UserId> = ["", "-a", "-ab", "-b"]
        .iter()
        .map(|tail| UserId::new(&format!("{base}{tail}")).expect("valid"))
        .collect();
    for id in ids.iter().rev() {
        create(directory, &user(id, ""));
    }
    let names = |after: Option<&UserId>, limit| -> Vec<String> {
        let users = directory
            .users(after, limit)
            .expect("a healthy directory reads");
        users.into_iter().map(|u| u.user_id).collect()
    };
    let expected: Vec<&str> = ids.iter().map(UserId::as_str).collect();
    assert_eq!(names(Some(&ids[0]), 3), expected[1..]);
    assert_eq!(names(Some(&ids[1]), 1), expected[2..3]);
    assert!(names(None, 1_000_000).windows(2).all(|w| w[0] < w[1]));
    assert!(names(None, 0).is_empty());
}

fn devices(directory: &Arc<dyn Directory>) {
    let (a, b) = (id(), id());
    create(directory, &user(&a, ""));
    create(directory, &user(&b, ""));
    for name in ["phone", "web"] {
        directory
            .put_device(&a, &device(name))
            .expect("the user exists");
    }
    directory
        .put_device(&b, &device("phone"))
        .expect("the user exists");
    let mut revoked = device("web");
    revoked.revoked = true;
    directory.put_device(&a, &revoked).expect("the user exists");
    let web = DeviceId::new("web").expect("valid");
    assert_eq!(directory.device(&a, &web), Ok(Some(revoked.clone())));
    assert_eq!(directory.device(&b, &web), Ok(None));
    let mut all = directory.devices(&a).expect("a healthy directory reads");
    all.sort_by(|a, b| a.device_id.cmp(&b.device_id));
    assert_eq!(all, [device("phone"), revoked]);
}

fn device_of_nobody(directory: &Arc<dyn Directory>) {
    let outcome = directory.put_device(&id(), &device("web"));
    assert_eq!(outcome, Err(DirectoryError::NotFound));
    assert_eq!(directory.devices(&id()), Ok(Vec::new()));
}

fn groups(directory: &Arc<dyn Directory>) {
    let chat = ChatId::new(&format!("g:{}", unique())).expect("valid");
    let group = |name: &str, seq| Group {
        chat: chat.as_str().to_owned(),
        name: name.to_owned(),
        members: vec!["a".to_owned(), "b".to_owned()],
        admins: vec!["a".to_owned()],
        picture: String::new(),
        write_seq: seq,
    };
    let apply = |name: &str, seq| {
        let outcome = directory.apply_group(&group(name, seq), Seq(seq));
        outcome.expect("a healthy directory applies");
    };
    assert_eq!(directory.group(&chat), Ok(None));
    apply("new", 20);
    apply("old", 10);
    assert_eq!(directory.group(&chat), Ok(Some(group("new", 20))));
    apply("newer", 30);
    assert_eq!(directory.group(&chat), Ok(Some(group("newer", 30))));
}

fn touched(directory: &Arc<dyn Directory>) {
    let chat = ChatId::new(&format!("g:{}", unique())).expect("valid");
    let group = Group {
        chat: chat.as_str().to_owned(),
        name: "large".to_owned(),
        picture: String::new(),
        members: ["a", "b", "c"].map(str::to_owned).into(),
        admins: vec!["a".to_owned()],
        write_seq: 10,
    };
    let outcome = directory.apply_group(&group, Seq(10));
    outcome.expect("a healthy directory applies");
    let touch = |seq: u64, members: &[(&str, bool)], left: &[&str]| {
        let members = members
            .iter()
            .map(|(user, admin)| ((*user).to_owned(), *admin));
        let delta = GroupDelta {
            chat: chat.as_str().to_owned(),
            name: "larger".to_owned(),
            picture: "p".to_owned(),
            members: members.collect(),
            left: left.iter().map(|user| (*user).to_owned()).collect(),
        };
        let outcome = directory.touch_group(&delta, Seq(seq));
        outcome.expect("a healthy directory applies");
    };
    for _ in 0..2 {
        touch(20, &[("d", false), ("b", true)], &[]);
        touch(30, &[("aa", false)], &["a", "never"]);
    }
    // What is old changes nothing.
    touch(25, &[("z", true)], &["b"]);
    let found = directory.group(&chat).expect("it reads").expect("there");
    assert_eq!(
        (found.name.as_str(), found.picture.as_str()),
        ("larger", "p")
    );
    assert_eq!(found.write_seq, 30);
    let sorted = |mut users: Vec<String>| {
        users.sort_unstable();
        users
    };
    assert_eq!(sorted(found.members), ["aa", "b", "c", "d"]);
    assert_eq!(found.admins, ["b"]);
    let page = |after: Option<&str>, limit| {
        let after = after.map(|user| UserId::new(user).expect("valid"));
        let page = directory.group_page(&chat, after.as_ref(), limit);
        let page = page.expect("it reads").expect("there");
        assert_eq!(
            (page.member_count, page.group.admins),
            (4, vec!["b".to_owned()])
        );
        page.group.members
    };
    assert_eq!(page(None, 3), ["aa", "b", "c"]);
    assert_eq!(page(Some("c"), 3), ["d"]);
    assert!(page(Some("d"), 3).is_empty());
    let none = ChatId::new(&format!("g:{}", unique())).expect("valid");
    assert_eq!(directory.group_page(&none, None, 3), Ok(None));
}

fn delete(directory: &Arc<dyn Directory>) {
    let (a, phone) = (id(), phone());
    create(directory, &user(&a, &phone));
    directory
        .put_device(&a, &device("web"))
        .expect("the user exists");
    directory.delete_user(&a).expect("the user exists");
    assert_eq!(directory.user(&a), Ok(None));
    assert_eq!(directory.user_by_phone(&phone), Ok(None));
    assert_eq!(directory.devices(&a), Ok(Vec::new()));
    create(directory, &user(&a, &phone));
}

fn race(directory: &Arc<dyn Directory>) {
    let id = id();
    let won = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| directory.create_user(&user(&id, "")).is_ok()))
            .collect();
        let outcomes = tries.into_iter().map(|t| t.join().expect("no panic"));
        outcomes.filter(|won| *won).count()
    });
    assert_eq!(won, 1);
}

fn put(directory: &Arc<dyn Directory>, revocation: &Revocation) -> u64 {
    let outcome = directory.put_revocation(revocation);
    outcome.expect("a healthy directory takes a revocation")
}

/// What is after a cursor, in pages of two, and the cursor then.
fn read_on(directory: &Arc<dyn Directory>, cursor: &mut u64) -> Vec<Revocation> {
    let mut out = Vec::new();
    loop {
        let page = directory.revocations_after(*cursor, 2);
        let page = page.expect("a healthy directory reads");
        assert!(page.len() <= 2, "a page is bounded");
        let Some((last, _)) = page.last() else {
            return out;
        };
        assert!(page.iter().all(|(at, _)| at > cursor), "cursors grow");
        *cursor = *last;
        out.extend(page.into_iter().map(|(_, revocation)| revocation));
    }
}

/// The end of a list that others write to as well.
fn end(directory: &Arc<dyn Directory>) -> u64 {
    let mut cursor = 0;
    read_on(directory, &mut cursor);
    cursor
}

fn far_ahead_ms() -> u64 {
    4_000_000_000_000
}

fn of_user(user: &UserId, until_ms: Option<u64>) -> Revocation {
    Revocation::User {
        user: user.clone(),
        until_ms,
    }
}

fn revocations(directory: &Arc<dyn Directory>) {
    let mut cursor = end(directory);
    let all = [
        of_user(&id(), Some(7)),
        of_user(&id(), None),
        Revocation::Device {
            user: id(),
            device: DeviceId::new("old-phone").expect("valid"),
            until_ms: Some(u64::MAX >> 1),
        },
        Revocation::Device {
            user: id(),
            device: DeviceId::new("web").expect("valid"),
            until_ms: None,
        },
        Revocation::Token {
            jti: format!("{} ü/'\"", unique()),
            expires_at_ms: far_ahead_ms(),
        },
        Revocation::Pardon { user: id() },
    ];
    for one in &all {
        let at = put(directory, one);
        let found = directory.revocations_after(at - 1, 1);
        assert_eq!(found, Ok(vec![(at, one.clone())]), "it is where it says");
    }
    let mut read = read_on(directory, &mut cursor);
    read.retain(|one| all.contains(one));
    assert_eq!(read, all);
    assert!(
        read_on(directory, &mut cursor)
            .iter()
            .all(|one| !all.contains(one))
    );
    let mut from_start = read_on(directory, &mut 0);
    from_start.retain(|one| all.contains(one));
    assert_eq!(from_start, all);
    assert_eq!(directory.revocations_after(0, 0), Ok(Vec::new()));
}

fn revocation_extended(directory: &Arc<dyn Directory>) {
    let user = id();
    let device = |until_ms| Revocation::Device {
        user: user.clone(),
        device: DeviceId::new("web").expect("valid"),
        until_ms,
    };
    put(directory, &device(Some(20)));
    let mut cursor = end(directory);
    for (given, kept) in [
        (Some(10), Some(20)),
        (Some(30), Some(30)),
        (None, None),
        (Some(40), None),
    ] {
        put(directory, &device(given));
        let read = read_on(directory, &mut cursor);
        assert!(read.contains(&device(kept)), "{given:?}: {read:?}");
    }
    let mut all = read_on(directory, &mut 0);
    all.retain(|one| matches!(one, Revocation::Device { user: whose, .. } if *whose == user));
    assert_eq!(all, [device(None)], "one entry per target");
}

fn pardon(directory: &Arc<dyn Directory>) {
    let user = id();
    let pardon = Revocation::Pardon { user: user.clone() };
    let mine = |mut all: Vec<Revocation>| {
        all.retain(|one| {
            *one == pardon || matches!(one, Revocation::User { user: u, .. } if *u == user)
        });
        all
    };
    put(directory, &of_user(&user, None));
    let mut cursor = end(directory);
    put(directory, &pardon);
    assert_eq!(
        mine(read_on(directory, &mut cursor)),
        std::slice::from_ref(&pardon)
    );
    assert_eq!(
        mine(read_on(directory, &mut 0)),
        std::slice::from_ref(&pardon)
    );
    put(directory, &of_user(&user, Some(5)));
    let again = [of_user(&user, Some(5))];
    assert_eq!(
        mine(read_on(directory, &mut cursor)),
        again,
        "not for ever any more"
    );
    assert_eq!(mine(read_on(directory, &mut 0)), again);
}

fn revocations_at_once(directory: &Arc<dyn Directory>) {
    const WRITERS: usize = 4;
    const EACH: usize = 20;
    let base = unique();
    let token = |writer: usize, n: usize| Revocation::Token {
        jti: format!("{base}-{writer}-{n}"),
        expires_at_ms: far_ahead_ms(),
    };
    let mut cursor = end(directory);
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        let writers: Vec<ScopedJoinHandle<'_, Vec<u64>>> = (0..WRITERS)
            .map(|w| scope.spawn(move || (0..EACH).map(|n| put(directory, &token(w, n))).collect()))
            .collect();
        while !writers.iter().all(ScopedJoinHandle::is_finished) {
            seen.extend(read_on(directory, &mut cursor));
        }
        let places = writers
            .into_iter()
            .flat_map(|w| w.join().expect("no panic"));
        let places: BTreeSet<u64> = places.collect();
        assert_eq!(places.len(), WRITERS * EACH, "each has a place of its own");
    });
    seen.extend(read_on(directory, &mut cursor));
    for writer in 0..WRITERS {
        let mine: Vec<_> = (0..EACH).map(|n| token(writer, n)).collect();
        let read: Vec<_> = seen
            .iter()
            .filter(|one| mine.contains(one))
            .cloned()
            .collect();
        assert_eq!(read, mine, "writer {writer}'s, in its order, each once");
    }
}

fn lost_cursor(directory: &Arc<dyn Directory>) {
    let mine = of_user(&id(), Some(1));
    put(directory, &mine);
    let read = read_on_once(directory, u64::MAX >> 1);
    assert!(read.iter().any(|(at, _)| *at < u64::MAX >> 1), "{read:?}");
}

fn read_on_once(directory: &Arc<dyn Directory>, cursor: u64) -> Vec<(u64, Revocation)> {
    let page = directory.revocations_after(cursor, 10);
    page.expect("a healthy directory reads")
}
