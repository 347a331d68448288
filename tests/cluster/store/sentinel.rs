//! A server with a replica and a Sentinel.

use jamjam_dev::io::cluster::store::{self, ConnectError};
use test_support::server::poll_until;

use super::connection::append_eventually;
use super::{FORMAT, Member};
use crate::redis_server::{RedisServer, free_port};

#[tokio::test]
async fn failover_is_followed_and_notifications_arrive_again() {
    let Some(mut first) = RedisServer::start() else { return };
    let second = first.start_replica();
    let sentinel = RedisServer::start_sentinel(first.port, "");
    let replicas = || sentinel.command::<Vec<redis::Value>>("SENTINEL REPLICAS rooms").len();
    poll_until("the Sentinel", || (replicas() == 1).then_some(()));
    // The first Sentinel is away.
    let url = format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{}/rooms", free_port(), sentinel.port);
    let (mut a, mut b) = (Member::join_url(&url).await, Member::join_url(&url).await);
    let (room, position) = a.create("room").await;
    b.store.follow(&b.lease, room, None).await.unwrap();
    assert_eq!(a.next_entry(room).await.position, position);
    // These tests do not renew leases.
    for member in [&a, &b] {
        let _: u32 = first.command(&format!("EXPIRE jamjam:lease:{} 60", member.number()));
    }
    let lease = format!("TTL jamjam:lease:{}", b.number());
    poll_until("the replica", || (second.command::<i64>(&lease) > 50).then_some(()));
    first.kill();
    a.subscribed().await;
    b.subscribed().await;
    let next = append_eventually(&b, room, "after").await;
    assert_eq!((a.next_entry(room).await.position, b.next_entry(room).await.position), (next.clone(), next));
    assert_eq!(a.read(room, Some(&position)).await, ["after"]);
    a.renew().await.unwrap();
    // The old server comes back, empty and not yet demoted. Nobody uses it.
    first.start_again();
    let next = append_eventually(&a, room, "last").await;
    assert_eq!(b.next_entry(room).await.position, next);
    let unknown = store::connect(&url.replace("/rooms", "/other"), "jamjam:", FORMAT).await.err();
    assert!(
        matches!(&unknown, Some(ConnectError::Unavailable(text)) if text.contains("does not know other")),
        "{unknown:?}"
    );
}

// Until Sentinel demotes it, 10 s later, the old server would accept entries and lose them.
#[tokio::test]
async fn replaced_server_is_left_before_it_is_demoted() {
    let Some(first) = RedisServer::start() else { return };
    let second = first.start_replica();
    let sentinel = RedisServer::start_sentinel(first.port, "");
    let mut member = Member::join_url(&format!("redis+sentinel://127.0.0.1:{}/rooms", sentinel.port)).await;
    let (room, position) = member.create("room").await;
    assert_eq!(member.next_entry(room).await.position, position);
    let exists = format!("EXISTS jamjam:room:{room}");
    poll_until("the replica", || second.command::<bool>(&exists).then_some(()));
    poll_until("the failover", || sentinel.try_command::<()>("SENTINEL FAILOVER rooms").ok());
    second.wait_for_role("master");
    member.subscribed().await;
    assert!(first.command::<String>("INFO replication").contains("role:master"));
    let next = append_eventually(&member, room, "after").await;
    assert_eq!(member.next_entry(room).await.position, next);
}

#[tokio::test]
async fn sentinels_get_the_password_of_the_server_only_if_they_need_one() {
    let logins = "--requirepass secret --user rooms on >secret ~* &* +@all".split(' ');
    let Some(server) = RedisServer::start_with(&logins.collect::<Vec<_>>()) else { return };
    let auth = "sentinel auth-pass rooms secret\n";
    for (number, options) in [auth, &format!("{auth}requirepass secret\n")].into_iter().enumerate() {
        let sentinel = RedisServer::start_sentinel(server.port, options);
        let url = |login: &str| format!("redis+sentinel://{login}127.0.0.1:{}/rooms", sentinel.port);
        for login in [":secret@", "default:secret@", "rooms:secret@"] {
            let mut member = Member::join_url(&url(login)).await;
            let (room, position) = member.create(&format!("{number} {login}")).await;
            assert_eq!(member.next_entry(room).await.position, position);
        }
        for login in ["", ":wrong@", "rooms:wrong@"] {
            let refused = store::connect(&url(login), "jamjam:", FORMAT).await.err();
            assert!(
                matches!(&refused, Some(ConnectError::Unavailable(text)) if !text.contains("wrong")),
                "{login}: {refused:?}"
            );
        }
    }
}
