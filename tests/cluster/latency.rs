//! How long an append takes.

use std::time::{Duration, Instant};

use tokio::time::interval;

use super::member::Member;
use super::redis_server::RedisServer;

const APPENDERS: usize = 50;
const PER_APPENDER: usize = 200;

/// Two processes, 25 rooms that both follow, and 50 appenders that each append 300 bytes 40 times per second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, needs two idle cores and --release"]
async fn append_takes_at_most_0_3_ms_in_the_median_and_1_ms_in_p99() {
    let Some(server) = RedisServer::start() else { return };
    let members = [Member::join(&server).await, Member::join(&server).await];
    let mut rooms = Vec::new();
    for index in 0..APPENDERS / 2 {
        let (room, _) = members[0].create(&index.to_string()).await;
        members[1].store.follow(&members[1].lease, room, None).await.unwrap();
        rooms.push(room);
    }
    let (mut appenders, mut readers) = (Vec::new(), Vec::new());
    for index in 0..APPENDERS {
        let member = &members[index % 2];
        let (store, lease, room) = (member.store.clone(), member.lease.clone(), rooms[index / 2]);
        appenders.push(tokio::spawn(async move {
            let mut times = Vec::new();
            tokio::time::sleep(Duration::from_micros(500 * index as u64)).await;
            let mut tick = interval(Duration::from_millis(25));
            for _ in 0..PER_APPENDER {
                tick.tick().await;
                let started = Instant::now();
                store.append(&lease, room, &[b'x'; 300], 0).await.unwrap();
                times.push(started.elapsed());
            }
            times
        }));
    }
    for mut member in members {
        readers.push(tokio::spawn(async move { while member.notifications.recv().await.is_some() {} }));
    }
    let started = Instant::now();
    let mut times = Vec::new();
    for appender in appenders {
        times.extend(appender.await.unwrap());
    }
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort_unstable();
    let [p50, p99] = [times.len() / 2, times.len() * 99 / 100].map(|index| times[index]);
    println!("{rate:.0} appends/s, p50 {p50:?}, p99 {p99:?}, longest {:?}", times[times.len() - 1]);
    let statistics: String = server.command("INFO commandstats");
    println!("{}", statistics.lines().find(|line| line.contains("evalsha")).unwrap_or_default());
    assert!(p50 <= Duration::from_micros(300) && p99 <= Duration::from_millis(1));
}
