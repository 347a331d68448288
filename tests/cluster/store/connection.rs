//! Servers that restart, stop, forget and drop connections, and servers that cannot be used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jamjam_dev::io::cluster::store::{self, CALL_TIMEOUT, ConnectError, Notification, Position, StoreError};
use test_support::certificate::Authority;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::{FORMAT, Member, PATIENCE, acquire};
use crate::redis_server::{RedisServer, free_port};

async fn error(url: &str) -> ConnectError {
    store::connect(url, "jamjam:", FORMAT).await.err().expect("an error")
}

/// Appends until an append succeeds.
pub(crate) async fn append_eventually(member: &Member, room: u64, entry: &str) -> Position {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match member.append(room, entry).await {
            Ok(position) => return position,
            Err(StoreError::Unavailable(reason)) => assert!(Instant::now() < deadline, "{reason}"),
            Err(error) => panic!("{error}"),
        }
    }
}

// LiveKit #2464 and socket.io-redis-streams-adapter #32: deaf after a restart.
#[tokio::test]
async fn notifications_arrive_again_after_a_restart_that_kept_the_rooms() {
    let Some(mut server) = RedisServer::start_durable() else { return };
    let (a, mut b) = (Member::join(&server).await, Member::join(&server).await);
    let (room, first) = a.create("room").await;
    b.store.follow(&b.lease, room, None).await.unwrap();
    for _ in 0..3 {
        let before = append_eventually(&a, room, "before").await;
        assert_eq!(b.next_entry(room).await.position, before);
        server.restart();
        assert_eq!(b.next().await, Notification::Subscribed);
        // Subscriptions come first, so that the answer and what is announced later leave no gap.
        let missed = append_eventually(&a, room, "after").await;
        let entries = b.store.follow(&b.lease, room, Some(&before)).await.unwrap().expect("the position").entries;
        assert_eq!(b.next_entry(room).await.position, missed);
        assert_eq!(entries.last().map(|entry| &entry.position), Some(&missed));
        b.renew().await.unwrap();
    }
    assert_eq!(b.read(room, Some(&first)).await.len(), 6);
}

#[tokio::test]
async fn restart_without_data_loses_rooms_and_leases_and_then_works() {
    let Some(mut server) = RedisServer::start() else { return };
    let mut member = Member::join(&server).await;
    let (room, first) = member.create("room").await;
    server.restart_empty();
    member.subscribed().await;
    assert_eq!(member.renew().await, Err(StoreError::LeaseLost));
    assert_eq!(member.append(room, "late").await, Err(StoreError::LeaseLost));
    member.lease = acquire(&member.store).await;
    member.subscribed().await;
    assert_eq!(member.store.follow(&member.lease, room, Some(&first)).await, Err(StoreError::RoomGone));
    assert_eq!(member.store.find("jamjam", "room").await, Ok(None));
    let (again, position) = member.create("room").await;
    assert_eq!(member.next_entry(again).await.position, position);
    // The numbers begin again, so the old room and the new one differ only in their hashes.
    let unlike = Position { hash: first.hash.replace(|_| true, "0"), ..first };
    assert_eq!(member.store.follow(&member.lease, again, Some(&unlike)).await, Ok(None));
    // The server has the format again.
    assert!(matches!(store::connect(&server.url(), "jamjam:", FORMAT + 1).await, Err(ConnectError::Refused(_))));
}

#[tokio::test]
async fn scripts_are_sent_again_after_the_server_forgot_them() {
    let Some(server) = RedisServer::start() else { return };
    let member = Member::join(&server).await;
    let (room, first) = member.create("room").await;
    let flush = async {
        for _ in 0..50 {
            let _: () = server.command("SCRIPT FLUSH");
            tokio::task::yield_now().await;
        }
    };
    let append = async {
        for number in 2..=300 {
            // A call whose script was removed again between its transfer and its call fails.
            append_eventually(&member, room, &number.to_string()).await;
        }
    };
    tokio::join!(append, flush);
    let expected: Vec<String> = (2..=300).map(|number: u32| number.to_string()).collect();
    assert_eq!(member.read(room, Some(&first)).await, expected);
}

#[tokio::test]
async fn append_on_a_killed_connection_is_executed_at_most_once() {
    let Some(server) = RedisServer::start() else { return };
    let mut member = Member::join(&server).await;
    let (room, first) = member.create("room").await;
    let (store, lease) = (member.store.clone(), member.lease.clone());
    let appends = tokio::spawn(async move {
        let mut results = Vec::new();
        let mut failures = 0;
        while failures < 5 {
            let entry = results.len().to_string();
            let result = store.append(&lease, room, (0, entry.as_bytes()), 0).await;
            failures += u32::from(result.is_err());
            results.push(result.map(|(position, _)| position.offset));
        }
        results
    });
    while !appends.is_finished() {
        let _: redis::Value = server.command("CLIENT KILL TYPE normal SKIPME yes");
        member.subscribed().await;
    }
    let results = appends.await.unwrap();
    let log = member.read(room, Some(&first)).await;
    let mut next = log.iter().zip(2..).peekable();
    for (number, result) in results.iter().enumerate() {
        let (entry, is_found) =
            (number.to_string(), next.peek().is_some_and(|(entry, _)| **entry == number.to_string()));
        match result {
            Ok(offset) => assert_eq!(next.next(), Some((&entry, *offset))),
            // It may have been executed.
            Err(StoreError::Unavailable(_)) => drop(is_found.then(|| next.next())),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(next.next(), None, "an entry was appended twice or out of order");
}

// Centrifugo #1189: subscriptions gone while commands succeed.
#[tokio::test]
async fn killed_subscription_is_replaced_and_announced() {
    let Some(server) = RedisServer::start() else { return };
    let mut member = Member::join(&server).await;
    let (room, position) = member.create("room").await;
    assert_eq!(member.next_entry(room).await.position, position);
    for _ in 0..3 {
        let killed: u32 = server.command("CLIENT KILL TYPE pubsub");
        assert_eq!(killed, 1);
        assert_eq!(member.next().await, Notification::Subscribed);
        let position = append_eventually(&member, room, "x").await;
        assert_eq!(member.next_entry(room).await.position, position);
    }
}

/// Forwards connections to the server. Those that exist when `stall` is notified stay open, but nothing passes any more, except the
/// third, which has the commands: the first two are replaced when the process takes a number.
async fn forward_and_stall(listener: TcpListener, server: u16, stall: Arc<Notify>) {
    for index in 0.. {
        let (mut client, _) = listener.accept().await.unwrap();
        let stall = Arc::clone(&stall);
        tokio::spawn(async move {
            let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            let copy = copy_bidirectional(&mut client, &mut server);
            if index == 2 {
                return drop(copy.await);
            }
            tokio::select! {
                _ = copy => {}
                () = stall.notified() => {}
            }
            std::future::pending::<()>().await;
        });
    }
}

// Centrifugo #1189, without an error on the connection.
#[tokio::test]
async fn silent_loss_of_the_subscription_is_noticed_though_commands_succeed() {
    let Some(server) = RedisServer::start() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, stall) = (format!("redis://{}", listener.local_addr().unwrap()), Arc::new(Notify::new()));
    tokio::spawn(forward_and_stall(listener, server.port, Arc::clone(&stall)));
    let mut member = Member::join_url(&url).await;
    let (room, position) = member.create("room").await;
    assert_eq!(member.next_entry(room).await.position, position);
    stall.notify_waiters();
    let unheard = member.append(room, "unheard").await.unwrap();
    assert_eq!(member.next().await, Notification::Subscribed);
    assert_eq!(member.read(room, Some(&position)).await, ["unheard"]);
    let next = append_eventually(&member, room, "heard").await;
    assert_eq!((member.next_entry(room).await.position, next.offset), (next, unheard.offset + 1));
}

// socket.io-redis-adapter #425: an error kills the process. Errors of Redis change nothing and end with their cause.
#[tokio::test]
async fn refused_append_leaves_no_trace_and_later_ones_succeed() {
    let Some(server) = RedisServer::start() else { return };
    let mut member = Member::join(&server).await;
    let (room, first) = member.create("room").await;
    assert_eq!(member.next_entry(room).await.position, first);
    for (cause, remedy, words) in
        [("maxmemory 1", "maxmemory 0", "OOM"), ("min-replicas-to-write 1", "min-replicas-to-write 0", "NOREPLICAS")]
    {
        let before = member.append(room, "before").await.unwrap();
        let members = || member.store.list("jamjam");
        let listed = members().await.unwrap();
        let _: () = server.command(&format!("CONFIG SET {cause}"));
        let refused = member.store.append(&member.lease, room, (0, b"refused"), 1).await;
        let _: () = server.command(&format!("CONFIG SET {remedy}"));
        assert!(matches!(&refused, Err(StoreError::Unavailable(text)) if text.contains(words)), "{refused:?}");
        assert_eq!(members().await.unwrap(), listed);
        let next = member.append(room, "after").await.unwrap();
        assert_eq!(next.offset, before.offset + 1);
        assert_eq!([member.next_entry(room).await.position, member.next_entry(room).await.position], [before, next]);
    }
    assert_eq!(member.read(room, Some(&first)).await, ["before", "after", "before", "after"]);
}

// LiveKit #4663: an outage outlives its cause.
#[tokio::test]
async fn stopped_server_is_noticed_and_used_again_when_it_continues() {
    let Some(server) = RedisServer::start() else { return };
    let mut member = Member::join(&server).await;
    let (room, position) = member.create("room").await;
    assert_eq!(member.next_entry(room).await.position, position);
    server.signal("STOP");
    let began = Instant::now();
    let failed = member.append(room, "unknown").await;
    assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    assert!((CALL_TIMEOUT..CALL_TIMEOUT + Duration::from_secs(2)).contains(&began.elapsed()));
    while member.store.status().is_ok() {
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(10)).await;
    }
    server.signal("CONT");
    let continued = Instant::now();
    member.subscribed().await;
    assert!(continued.elapsed() < Duration::from_secs(5), "{:?}", continued.elapsed());
    assert_eq!(member.store.status(), Ok(()));
    let last = append_eventually(&member, room, "known").await;
    assert_eq!(member.next_entry(room).await.position, last);
    // The first append may have waited in the socket of the stopped server.
    let log = member.read(room, Some(&position)).await;
    assert!(log == ["known"] || log == ["unknown", "known"], "{log:?}");
}

#[tokio::test]
async fn process_that_reads_too_slowly_reads_its_rooms_again() {
    let Some(server) = RedisServer::start() else { return };
    let (mut slow, writer) = (Member::join(&server).await, Member::join(&server).await);
    let (room, _) = writer.create("room").await;
    slow.store.follow(&slow.lease, room, None).await.unwrap();
    // The writer would not read its notifications either.
    writer.store.unfollow(&writer.lease, room, 0, false).await.unwrap();
    let (mut last, mut count) = (Position::default(), 0);
    while slow.store.status().is_ok() {
        last = append_eventually(&writer, room, "x").await;
        count += 1;
        assert!(count < 100_000, "the queue of notifications is not bounded");
    }
    slow.subscribed().await;
    let known = writer.store.follow(&writer.lease, room, None).await.unwrap();
    assert_eq!(known.expect("a log").entries.last().unwrap().position, last);
    let next = append_eventually(&writer, room, "y").await;
    assert_eq!(slow.next_entry(room).await.position, next);
}

#[tokio::test]
async fn dropping_the_notifications_closes_the_connections() {
    let Some(server) = RedisServer::start() else { return };
    let member = Member::join(&server).await;
    let clients = || server.command::<String>("CLIENT LIST").lines().count();
    // The third asks for the list.
    assert_eq!(clients(), 3);
    drop(member.notifications);
    let deadline = Instant::now() + PATIENCE;
    while clients() > 1 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(1)).await;
    }
    assert!(matches!(member.store.renew(&member.lease).await, Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn databases_of_a_server_are_separate_clusters() {
    let Some(server) = RedisServer::start() else { return };
    let mut zero = Member::join(&server).await;
    let mut one = Member::join_url(&format!("{}/1", server.url())).await;
    assert_eq!(zero.number(), one.number());
    let (room, position) = zero.create("room").await;
    let (other, _) = one.create("other").await;
    one.store.publish_all(b"one").await.unwrap();
    assert_eq!(zero.next_entry(room).await.position, position);
    zero.store.publish_all(b"zero").await.unwrap();
    assert_eq!(zero.next().await, Notification::All("zero".into()));
    one.next_entry(other).await;
    assert_eq!(one.next().await, Notification::All("one".into()));
}

#[tokio::test]
async fn user_needs_only_the_documented_permissions() {
    let Some(server) = RedisServer::start() else { return };
    let permissions = "~jamjam:* &jamjam:* -@all +@read +@write +@scripting +@pubsub +@connection +time";
    let _: () = server.command(&format!("ACL SETUSER rooms on >secret {permissions}"));
    let _: () = server.command("ACL SETUSER default -@all +ping");
    let url = format!("redis://rooms:secret@127.0.0.1:{}", server.port);
    let mut member = Member::join_url(&url).await;
    let (room, position) = member.create("room").await;
    assert_eq!(member.next_entry(room).await.position, position);
    let store = &member.store;
    assert_eq!(store.save_snapshot(&member.lease, room, &position, b"s", b"d").await, Ok(true));
    assert_eq!(store.list("jamjam").await.unwrap().len(), 1);
    assert_eq!(store.count_wrong("password", "192.0.2.1").await, Ok(1));
    assert_eq!(member.renew().await, Ok(vec![(member.number(), true)]));
    store.set_range("a", b"b").await.unwrap();
    store.reject_late(&member.lease, 1).await.unwrap();
    assert_eq!(store.unfollow(&member.lease, room, position.offset, true).await, Ok(true));
    store.release(&member.lease).await.unwrap();
    for wrong in ["rooms:wrong@", "nobody:secret@", ""] {
        let error = error(&format!("redis://{wrong}127.0.0.1:{}", server.port)).await;
        assert!(matches!(error, ConnectError::Unavailable(_)), "{error:?}");
    }
}

#[tokio::test]
async fn unusable_servers_and_urls_are_explained_without_the_password() {
    for (url, words) in [
        ("localhost", "redis://HOST:PORT"),
        ("http://user:hunter2@localhost", "http:// is not one of"),
        ("redis://user:hunter2@", ""),
        ("redis://user:hunter2@localhost:port", ""),
        ("redis+sentinel://user:hunter2@localhost", "name of the Redis server is missing"),
        ("redis+sentinel://user:hunter2@one,two:port/rooms", ""),
    ] {
        let ConnectError::Refused(text) = error(url).await else { panic!("{url}") };
        assert!(text.contains(words) && !text.contains("hunter2"), "{url}: {text}");
    }
    let nobody = error(&format!("redis://user:hunter2@127.0.0.1:{}", free_port())).await;
    assert!(matches!(&nobody, ConnectError::Unavailable(text) if !text.contains("hunter2")), "{nobody:?}");
    let Some(cluster) = RedisServer::start_with(&["--cluster-enabled", "yes"]) else { return };
    let refused = error(&cluster.url()).await;
    assert!(matches!(&refused, ConnectError::Refused(text) if text.contains("Redis Cluster")), "{refused:?}");
    let sentinel = RedisServer::start_sentinel(cluster.port, "");
    let refused = error(&sentinel.url()).await;
    assert!(matches!(&refused, ConnectError::Refused(text) if text.contains("redis+sentinel://")), "{refused:?}");
    let port = cluster.port.to_string();
    let Some(replica) = RedisServer::start_with(&["--replicaof", &format!("127.0.0.1 {port}")]) else { return };
    let refused = error(&replica.url()).await;
    assert!(matches!(&refused, ConnectError::Unavailable(text) if text.contains("accepts no writes")), "{refused:?}");
}

#[tokio::test]
async fn server_that_expects_or_lacks_tls_is_an_error_that_names_tls() {
    let (authority, tls_port) = (Authority::new(), free_port().to_string());
    let pair = authority.certify();
    let (cert, key) = (pair.cert.to_str().unwrap(), pair.key.to_str().unwrap());
    let tls = ["--tls-port", &tls_port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert];
    let Some(server) = RedisServer::start_with(&tls) else { return };
    for url in [format!("rediss://127.0.0.1:{}", server.port), format!("redis://127.0.0.1:{tls_port}")] {
        let error = error(&url).await;
        assert!(matches!(&error, ConnectError::Unavailable(text) if text.contains("rediss://")), "{url}: {error:?}");
    }
}

/// `redis` reads the authorities of the system, which a variable of this process replaces.
const CA_VARIABLE: &str = "SSL_CERT_FILE";

#[tokio::test]
async fn tls_is_used_and_the_certificate_is_checked() {
    let authority = Authority::new();
    let Ok(url) = std::env::var("CLUSTER_TLS_URL") else {
        let (pair, own) = (authority.certify(), authority.own());
        let tls_port = free_port().to_string();
        let (cert, key, ca) = (pair.cert.to_str().unwrap(), pair.key.to_str().unwrap(), own.to_str().unwrap());
        let tls = ["--tls-port", &tls_port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca];
        let Some(_server) = RedisServer::start_with(&[&tls[..], &["--tls-auth-clients", "no"]].concat()) else {
            return;
        };
        let sentinel_port = free_port();
        let options = format!(
            "tls-port {sentinel_port}\ntls-cert-file {cert}\ntls-key-file {key}\ntls-ca-cert-file {ca}\n\
             tls-auth-clients no\ntls-replication yes\n"
        );
        let _sentinel = RedisServer::start_sentinel(tls_port.parse().unwrap(), &options);
        let urls =
            [format!("rediss://127.0.0.1:{tls_port}"), format!("rediss+sentinel://127.0.0.1:{sentinel_port}/rooms")];
        for (url, (authority, succeeds)) in
            urls.iter().flat_map(|url| [(ca, true), ("", false)].map(|case| (url, case)))
        {
            let mut this = std::process::Command::new(std::env::current_exe().unwrap());
            this.args(["--exact", "store::connection::tls_is_used_and_the_certificate_is_checked"]);
            this.env("CLUSTER_TLS_URL", url).env_remove(CA_VARIABLE);
            if succeeds {
                this.env(CA_VARIABLE, authority);
            }
            let output = this.output().unwrap();
            assert_eq!(output.status.success(), succeeds, "{output:?}");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(succeeds || text.contains("certificate"), "{text}");
        }
        return;
    };
    let mut member = Member::join_url(&url).await;
    let (room, position) = member.create(&url).await;
    assert_eq!(member.next_entry(room).await.position, position);
}
