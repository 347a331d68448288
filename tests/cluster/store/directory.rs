//! Names, lists, numbers, settings, and counts that processes share.

use bytes::Bytes;
use jamjam_dev::io::cluster::store::{self, ConnectError, Notification};

use super::{FORMAT, Member};
use crate::redis_server::RedisServer;

// LiveKit #1943: a room made twice.
#[tokio::test]
async fn two_creators_of_a_name_get_one_room() {
    let Some(server) = RedisServer::start() else { return };
    let (a, b) = (Member::join(&server).await, Member::join(&server).await);
    for round in 0..50 {
        let names = [&*format!("room {round}")];
        let (first, second) = tokio::join!(a.try_create(&names), b.try_create(&names));
        match (first, second) {
            ((room, Some(_)), (taken, None)) | ((taken, None), (room, Some(_))) => assert_eq!(room, taken),
            both => panic!("{both:?}"),
        }
    }
    assert_eq!(a.store.list("jamjam").await.unwrap().len(), 50);
}

#[tokio::test]
async fn room_whose_second_name_is_taken_leaves_no_trace() {
    let Some(server) = RedisServer::start() else { return };
    let member = Member::join(&server).await;
    let (room, Some(_)) = member.try_create(&["id", "123456"]).await else { panic!() };
    assert_eq!(member.try_create(&["other", "123456"]).await, (room, None));
    assert_eq!(member.store.find("jamjam", "other").await, Ok(None));
    assert_eq!(member.store.find("jamjam", "123456").await, Ok(Some(room)));
    // Each dialect has its own names.
    assert_eq!(member.store.find("webrtc", "id").await, Ok(None));
    assert_eq!(member.store.list("jamjam").await.unwrap().len(), 1);
    assert_eq!(server.command::<u64>("DBSIZE"), server.command::<Vec<String>>("KEYS jamjam:*").len() as u64);
}

#[tokio::test]
async fn list_is_in_order_of_creation_with_members_of_living_processes() {
    let Some(server) = RedisServer::start() else { return };
    let (a, b) = (Member::join(&server).await, Member::join(&server).await);
    let mut rooms = Vec::new();
    // More than nine rooms, because a list in order of digits would have 10 before 2.
    for (index, member) in [&b, &a].into_iter().cycle().take(12).enumerate() {
        rooms.push(member.create(&format!("r{index}")).await.0);
    }
    a.store.follow(&a.lease, rooms[0], None).await.unwrap();
    a.store.append(&a.lease, rooms[0], (0, b"x"), 3).await.unwrap();
    a.store.set_members(&a.lease, rooms[1], 7).await.unwrap();
    let listed = a.store.list("jamjam").await.unwrap();
    let descriptions: Vec<_> = listed.iter().map(|(description, _)| description.clone()).collect();
    assert_eq!(descriptions, (0..12).map(|index| format!("about r{index}")).collect::<Vec<_>>());
    assert_eq!(listed.iter().map(|(_, members)| *members).take(3).collect::<Vec<_>>(), [4, 7, 1]);
    b.expire(&server);
    let listed = a.store.list("jamjam").await.unwrap();
    assert_eq!(listed.iter().map(|(_, members)| *members).take(4).collect::<Vec<_>>(), [3, 7, 0, 1]);
}

#[tokio::test]
async fn unreadable_value_of_a_room_does_not_hide_the_others() {
    let Some(server) = RedisServer::start() else { return };
    let member = Member::join(&server).await;
    let mut rooms = Vec::new();
    for name in ["count", "members", "room", "good"] {
        rooms.push(member.create(name).await.0);
    }
    let _: u32 = server.command(&format!("HSET jamjam:room:{}:members {} many", rooms[0], member.number()));
    let () = server.command(&format!("SET jamjam:room:{}:members text", rooms[1]));
    let () = server.command(&format!("SET jamjam:room:{} text", rooms[2]));
    let listed = member.store.list("jamjam").await.unwrap();
    let expected = [("about count", 0), ("about members", 0), ("", 1), ("about good", 1)];
    assert_eq!(listed, expected.map(|(description, members)| (description.into(), members)));
}

#[tokio::test]
async fn numbers_are_never_used_again_even_after_a_restart() {
    let Some(mut server) = RedisServer::start_durable() else { return };
    let mut member = Member::join(&server).await;
    let (first, position) = member.create("name").await;
    assert_eq!(member.store.unfollow(&member.lease, first, position.offset, true).await, Ok(true));
    let (second, position) = member.create("name").await;
    assert_eq!(member.store.unfollow(&member.lease, second, position.offset, true).await, Ok(true));
    member.store.release(&member.lease).await.unwrap();
    server.restart();
    member.subscribed().await;
    let next = Member::join(&server).await;
    let (third, _) = next.create("name").await;
    assert!(first < second && second < third && member.number() < next.number());
}

#[tokio::test]
async fn settings_that_differ_are_named_while_another_process_lives() {
    let Some(server) = RedisServer::start() else { return };
    let (store, _notifications) = store::connect(&server.url(), "jamjam:", FORMAT).await.unwrap();
    let acquire = |settings: &'static [(&'static str, &'static str)]| {
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let store = store.clone();
        async move { store.acquire(&settings).await.unwrap() }
    };
    let Ok(first) = acquire(&[("secret", "s1"), ("limit", "l1")]).await else { panic!() };
    let Ok(same) = acquire(&[("secret", "s1"), ("limit", "l1"), ("newer", "n1")]).await else { panic!() };
    let differing = acquire(&[("secret", "s2"), ("limit", "l1"), ("newer", "n2")]).await;
    assert_eq!(differing, Err(vec!["secret".to_owned(), "newer".to_owned()]));
    store.release(&first).await.unwrap();
    store.release(&same).await.unwrap();
    // Nobody is left who could disagree. Of two that start together, the first decides.
    let (one, two) = tokio::join!(acquire(&[("secret", "s3")]), acquire(&[("secret", "s4")]));
    let refused = Err(vec!["secret".to_owned()]);
    assert!((one == refused) != (two == refused), "{one:?} {two:?}");
}

#[tokio::test]
async fn server_with_rooms_of_another_format_is_refused() {
    let Some(server) = RedisServer::start() else { return };
    let _member = Member::join(&server).await;
    let refused = store::connect(&server.url(), "jamjam:", FORMAT + 1).await.err();
    assert!(matches!(&refused, Some(ConnectError::Refused(text)) if text.contains("format 1")), "{refused:?}");
    store::connect(&server.url(), "other:", FORMAT + 1).await.expect("another prefix has its own format");
}

#[tokio::test]
async fn wrong_attempts_are_counted_for_all_processes_and_expire() {
    let Some(server) = RedisServer::start() else { return };
    let (a, b) = (Member::join(&server).await, Member::join(&server).await);
    assert_eq!(a.store.wrong_count("password", "192.0.2.1").await, Ok(0));
    assert_eq!(a.store.count_wrong("password", "192.0.2.1").await, Ok(1));
    let _: u32 = server.command("EXPIRE jamjam:wrong:password:192.0.2.1 100");
    assert_eq!(b.store.count_wrong("password", "192.0.2.1").await, Ok(2));
    assert_eq!(a.store.wrong_count("password", "192.0.2.1").await, Ok(2));
    assert_eq!(a.store.wrong_count("token", "192.0.2.1").await, Ok(0));
    // A later attempt does not prolong the time of the first.
    assert!(server.command::<i64>("TTL jamjam:wrong:password:192.0.2.1") <= 100);
    assert_eq!(a.store.count_wrong("password", "2001:db8::/64").await, Ok(1));
    assert!((890..=900).contains(&server.command::<i64>("TTL jamjam:wrong:password:2001:db8::/64")));
}

#[tokio::test]
async fn values_for_all_rooms_and_messages_reach_every_process() {
    let Some(server) = RedisServer::start() else { return };
    let (mut a, mut b) = (Member::join(&server).await, Member::join(&server).await);
    let value = |name: &str, value: &'static str| (name.to_owned(), Bytes::from_static(value.as_bytes()));
    for (name, range) in [("volume", "0..1"), ("pan", "0..2"), ("pan", "-1..1")] {
        a.store.set_range(name, range.as_bytes()).await.unwrap();
    }
    let mut ranges = b.store.ranges().await.unwrap();
    ranges.sort();
    assert_eq!(ranges, [value("pan", "-1..1"), value("volume", "0..1")]);
    a.store.publish_all(b"bytes \0\n\xff").await.unwrap();
    let message = Notification::All(Bytes::from_static(b"bytes \0\n\xff"));
    assert_eq!((a.next().await, b.next().await), (message.clone(), message));
}

#[tokio::test]
async fn clock_offset_is_that_of_the_same_machine() {
    let Some(server) = RedisServer::start() else { return };
    let member = Member::join(&server).await;
    let offset = member.store.renew(&member.lease).await.unwrap().clock_offset_us;
    // Redis reads the same clock. Half of the longest call is the error of the measurement.
    assert!(offset.abs() < 1_000_000, "{offset}");
}
