//! Leases of processes, and the departure of those that have none.

use std::collections::BTreeSet;

use jamjam_dev::io::cluster::store::{LEASE_LIFETIME, Notification, StoreError};

use super::{Member, acquire};
use crate::redis_server::RedisServer;

/// Processes without a lease that still follow rooms.
async fn dead_processes(member: &Member) -> Vec<u32> {
    let processes = member.renew().await.unwrap();
    processes.into_iter().filter(|(_, is_alive)| !is_alive).map(|(number, _)| number).collect()
}

#[tokio::test]
async fn lease_expires_unless_renewed_and_is_never_revived() {
    let Some(server) = RedisServer::start() else { return };
    let mut member = Member::join(&server).await;
    let lease = format!("jamjam:lease:{}", member.number());
    let lifetime = || server.command::<i64>(&format!("PTTL {lease}"));
    let full = LEASE_LIFETIME.as_millis() as i64;
    assert!((full - 5_000..=full).contains(&lifetime()));
    let _: u32 = server.command(&format!("PEXPIRE {lease} 5000"));
    assert_eq!(member.renew().await, Ok(vec![(member.number(), true)]));
    assert!((full - 4_000..=full).contains(&lifetime()));
    let _: u32 = server.command(&format!("PEXPIRE {lease} 0"));
    assert_eq!(member.renew().await, Err(StoreError::LeaseLost));
    assert_eq!(lifetime(), -2);
    // The new number has a channel of its own.
    let old = std::mem::replace(&mut member.lease, acquire(&member.store).await);
    member.subscribed().await;
    assert!(old.number < member.number());
    assert_eq!(member.store.renew(&old).await, Err(StoreError::LeaseLost));
    let (room, _) = member.create("room").await;
    assert_eq!(member.next_entry(room).await.position.offset, 1);
}

#[tokio::test]
async fn departures_are_appended_once_by_two_competing_processes() {
    let Some(server) = RedisServer::start() else { return };
    let (mut a, b, dead) = (Member::join(&server).await, Member::join(&server).await, Member::join(&server).await);
    // More rooms than one call handles. The process `a` follows the first.
    let mut rooms = Vec::new();
    for index in 0..120 {
        rooms.push(dead.create(&format!("room {index}")).await.0);
    }
    a.store.follow(&a.lease, rooms[0], None).await.unwrap();
    dead.expire(&server);
    assert_eq!(dead_processes(&a).await, [dead.number()]);
    assert_eq!(a.renew().await, Ok(vec![(a.number(), true), (b.number(), true), (dead.number(), false)]));
    let depart = |member: &Member, entry: &'static str| {
        let (store, lease, dead) = (member.store.clone(), member.lease.clone(), dead.number());
        async move {
            let (mut unfollowed, mut calls) = (Vec::new(), 0);
            loop {
                let (more_rooms, is_incomplete) = store.depart(&lease, dead, entry.as_bytes()).await.unwrap();
                (calls, unfollowed) = (calls + 1, [unfollowed, more_rooms].concat());
                if !is_incomplete {
                    break (calls, unfollowed);
                }
            }
        }
    };
    let ((calls_of_a, of_a), (calls_of_b, of_b)) = tokio::join!(depart(&a, "left"), depart(&b, "left"));
    assert!(calls_of_a + calls_of_b >= 3, "120 rooms need three calls");
    let unfollowed: BTreeSet<u64> = of_a.iter().chain(&of_b).copied().collect();
    assert_eq!((of_a.len() + of_b.len(), unfollowed), (119, rooms[1..].iter().copied().collect()));
    assert_eq!(a.next_entry(rooms[0]).await.entry, "left");
    assert_eq!(dead_processes(&a).await, [0; 0]);
    assert!(a.store.list("jamjam").await.unwrap().iter().all(|(_, members)| *members == 0));
    // Who comes too late appends nothing.
    assert_eq!(a.store.depart(&a.lease, dead.number(), b"again").await, Ok((vec![], false)));
    for room in rooms {
        assert_eq!(b.read(room, None).await, ["first", "left"]);
    }
}

#[tokio::test]
async fn living_process_cannot_be_departed() {
    let Some(server) = RedisServer::start() else { return };
    let (mut member, other) = (Member::join(&server).await, Member::join(&server).await);
    let (room, _) = member.create("room").await;
    let departed = other.store.depart(&other.lease, member.number(), b"left").await;
    assert_eq!(departed, Ok((vec![], false)));
    assert_eq!(other.read(room, None).await, ["first"]);
    member.append(room, "still here").await.unwrap();
    assert_eq!(member.next_entry(room).await.entry, "first");
    assert_eq!(member.next_entry(room).await.entry, "still here");
    assert_eq!(other.renew().await, Ok(vec![(member.number(), true), (other.number(), true)]));
}

#[tokio::test]
async fn departed_process_appends_nothing_after_its_departure() {
    let Some(server) = RedisServer::start() else { return };
    let (late, other) = (Member::join(&server).await, Member::join(&server).await);
    let (room, _) = late.create("room").await;
    // The process sleeps longer than its lease lives, and then goes on as if nothing had happened.
    late.expire(&server);
    other.store.depart(&other.lease, late.number(), b"left").await.unwrap();
    assert_eq!(late.append(room, "late").await, Err(StoreError::LeaseLost));
    assert_eq!(late.renew().await, Err(StoreError::LeaseLost));
    assert_eq!(other.read(room, None).await, ["first", "left"]);
}

#[tokio::test]
async fn released_process_is_listed_only_while_it_has_rooms() {
    let Some(server) = RedisServer::start() else { return };
    let (tidy, hasty, other) = (Member::join(&server).await, Member::join(&server).await, Member::join(&server).await);
    let (room, position) = tidy.create("tidy").await;
    tidy.store.unfollow(&tidy.lease, room, position.offset, true).await.unwrap();
    let (room, _) = hasty.create("hasty").await;
    tidy.store.release(&tidy.lease).await.unwrap();
    hasty.store.release(&hasty.lease).await.unwrap();
    assert_eq!(other.renew().await, Ok(vec![(hasty.number(), false), (other.number(), true)]));
    let departed = other.store.depart(&other.lease, hasty.number(), b"left").await;
    assert_eq!(departed, Ok((vec![room], false)));
    assert_eq!(other.renew().await, Ok(vec![(other.number(), true)]));
}

// A room without followers would be forgotten.
#[tokio::test]
async fn who_departs_the_last_follower_follows_until_the_room_is_deleted() {
    let Some(server) = RedisServer::start() else { return };
    let (first, second, third) =
        (Member::join(&server).await, Member::join(&server).await, Member::join(&server).await);
    let (room, _) = first.create("room").await;
    first.expire(&server);
    let last = (vec![room], false);
    assert_eq!(second.store.depart(&second.lease, first.number(), b"first left").await, Ok(last.clone()));
    // The second process dies before it has loaded the room.
    second.expire(&server);
    assert_eq!(dead_processes(&third).await, [second.number()]);
    assert_eq!(third.store.depart(&third.lease, second.number(), b"second left").await, Ok(last));
    assert_eq!(third.read(room, None).await, ["first", "first left", "second left"]);
    assert_eq!(third.store.unfollow(&third.lease, room, 3, true).await, Ok(true));
}

// socket.io-redis-streams-adapter #6: waits for departed nodes.
#[tokio::test]
async fn departed_process_gets_no_notifications_and_delays_nobody() {
    let Some(server) = RedisServer::start() else { return };
    let (mut gone, other) = (Member::join(&server).await, Member::join(&server).await);
    let (room, _) = gone.create("room").await;
    gone.expire(&server);
    other.store.depart(&other.lease, gone.number(), b"left").await.unwrap();
    other.append(room, "unheard").await.unwrap();
    other.store.publish_all(b"end").await.unwrap();
    assert_eq!(gone.next_entry(room).await.entry, "first");
    assert_eq!(gone.next().await, Notification::All("end".into()));
}
