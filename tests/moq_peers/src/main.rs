//! An echo client and an echo server built on the moq-dev crates (`moq-net`, `moq-tokio`), as counterparts in tests and benchmarks.
//!
//!     moq_peers server ADDRESS VERSIONS
//!     moq_peers client URL VERSIONS CONNECTIONS GROUPS INTERVAL_MS
//!
//! VERSIONS is a list such as `moq-lite-04,moq-lite-03`, or `all`. URL starts with `moqt://` (raw QUIC) or `https://` (WebTransport).
//! Certificates are not verified. The server prints its address, then returns each announced broadcast on its own connection. On each
//! connection, the client publishes one broadcast with one track, subscribes to its echo, and sends groups of [`FRAMES`] frames. It prints
//! its results as one line of JSON and keeps its connections open until its input ends.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::env;
use std::io::{self, Read};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use moq_tokio::moq_net::{Timestamp, Version, group, origin, track};
use moq_tokio::{connect, listen};
use serde_json::json;
use tokio::time::{sleep_until, timeout};
use url::Url;

/// Maximum age of a group. A shorter maximum drops groups that arrive out of order.
const MAX_AGE: Duration = Duration::from_secs(10);

/// Time limit for each step of the setup, and for the last groups to return.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Frames in each group.
const FRAMES: u64 = 2;

/// Bytes in each frame.
const SIZE: u64 = 100;

const BROADCAST: &str = "client.echo";
const TRACK: &str = "index";

#[tokio::main]
async fn main() -> ExitCode {
    if let Err(error) = run().await {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn run() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", address, versions] => serve(address, parse_versions(versions)?).await,
        ["client", url, versions, connections, groups, interval_ms] => {
            let interval = Duration::from_millis(interval_ms.parse()?);
            let connections: usize = connections.parse()?;
            run_clients(&url.parse()?, &parse_versions(versions)?, connections, groups.parse()?, interval).await
        }
        _ => bail!("usage: server ADDRESS VERSIONS, or client URL VERSIONS CONNECTIONS GROUPS INTERVAL_MS"),
    }
}

/// An empty list means all versions.
fn parse_versions(names: &str) -> anyhow::Result<Vec<Version>> {
    let names = names.split(',').filter(|name| *name != "all");
    names.map(|name| name.parse().map_err(anyhow::Error::msg)).collect()
}

async fn serve(address: &str, versions: Vec<Version>) -> anyhow::Result<()> {
    let mut config = listen::Config::default();
    config.bind = Some(address.parse()?);
    config.version = versions;
    config.tls.generate = vec!["localhost".to_owned()];
    let mut listener = config.init(Default::default())?.listen().await?;
    println!("{}", listener.local_addr()?);
    while let Some(request) = listener.accept().await {
        tokio::spawn(async move {
            // With a single origin, the client would not receive its own announcements.
            let (from_client, to_client) = (moq_tokio::origin::spawn(), moq_tokio::origin::spawn());
            let echo = tokio::spawn(echo_announced(from_client.consume(), to_client.clone()));
            match request.with_publisher(&to_client).with_subscriber(from_client).ok().await {
                Ok(session) => drop(session.closed().await),
                Err(error) => eprintln!("no session: {error}"),
            }
            echo.abort();
        });
    }
    Ok(())
}

/// Announces each broadcast in `from_client` also in `to_client`, and serves requests from there.
async fn echo_announced(from_client: origin::Consumer, to_client: origin::Producer) {
    let mut announcements = from_client.announced();
    let mut echoes = BTreeMap::new();
    while let Some(update) = announcements.next().await {
        let path = update.prefix.to_string();
        if !update.kind.is_active() {
            echoes.remove(&path);
        } else if let Entry::Vacant(entry) = echoes.entry(path) {
            let Ok(route) = to_client.dynamic(entry.key(), Default::default()) else { continue };
            let source = from_client.clone();
            let serve = async move {
                while let Ok(request) = route.requested_broadcast().await {
                    match source.request_broadcast(request.path()).await {
                        Ok(broadcast) => request.accept(broadcast),
                        Err(error) => request.reject(error),
                    }
                }
            };
            entry.insert(AbortOnDrop(tokio::spawn(serve)));
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One connection, ready to send.
struct Client {
    connection: moq_tokio::Connection,
    client: moq_tokio::Client,
    track: track::Producer,
    echo: track::Subscriber,
    /// Keeps the broadcast announced.
    _broadcast: moq_tokio::moq_net::broadcast::Producer,
}

#[derive(Default)]
struct Results {
    sent: usize,
    returned: usize,
    altered: usize,
    round_trips: Vec<Duration>,
}

async fn run_clients(
    url: &Url,
    versions: &[Version],
    connections: usize,
    groups: usize,
    interval: Duration,
) -> anyhow::Result<()> {
    ensure!(connections > 0, "CONNECTIONS must not be 0");
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(url.clone(), versions.to_vec()).await?);
    }
    let version = clients[0].connection.version().context("connection lost")?;
    let mut all = Results::default();
    for client in &mut clients {
        let results = client.exchange(groups, interval).await?;
        all.sent += results.sent;
        all.returned += results.returned;
        all.altered += results.altered;
        all.round_trips.extend(results.round_trips);
    }
    all.round_trips.sort();
    let p50 = all.round_trips.get(all.round_trips.len() / 2).map(|time| time.as_micros());
    println!(
        "{}",
        json!({
            "version": version.as_str(),
            "sent": all.sent,
            "returned": all.returned,
            "altered": all.altered,
            "round_trip_p50_us": p50,
        })
    );
    tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await??;
    for client in clients {
        client.client.close().await;
    }
    Ok(())
}

impl Client {
    async fn connect(url: Url, versions: Vec<Version>) -> anyhow::Result<Self> {
        let mut config = connect::Config::default();
        config.version = versions;
        config.tls.insecure = Some(true);
        config.once = Some(true);
        let (to_server, from_server) = (moq_tokio::origin::spawn(), moq_tokio::origin::spawn());
        let broadcast = to_server.create_broadcast(BROADCAST)?;
        let track = broadcast.create_track(TRACK, track::Info::default().with_max_age(MAX_AGE))?;
        broadcast.announce(Default::default())?;
        let received = from_server.consume();
        let client = config.init(Default::default())?.with_publisher(&to_server).with_subscriber(from_server);
        let connection = timeout(TIMEOUT, client.connect(url).established()).await.context("no connection")??;

        let mut announcements = received.announced();
        let announced = timeout(TIMEOUT, announcements.next()).await.context("the broadcast is not announced back")?;
        let path = announced.context("the connection ended before an announcement")?.prefix;
        ensure!(path.as_str() == BROADCAST, "{path} is announced instead of {BROADCAST}");
        let broadcast_echo = timeout(TIMEOUT, received.request_broadcast(BROADCAST)).await??;
        let subscription = track::Subscription::default().with_max_age(MAX_AGE);
        let subscribing = broadcast_echo.track(TRACK)?.subscribe(subscription);
        let mut echo = timeout(TIMEOUT, subscribing).await.context("the subscription is not accepted")??;
        // Before version 5 of moq-lite, the crate sends SUBSCRIBE when groups are read.
        tokio::select! {
            used = timeout(TIMEOUT, track.used()) => used.context("the server does not subscribe")??,
            group = echo.recv_group() => bail!("{} instead of a subscription", if group?.is_some() { "a group" } else { "an end" }),
        }
        Ok(Self { connection, client, track, echo, _broadcast: broadcast })
    }

    /// Sends the groups and waits for their return.
    async fn exchange(&mut self, groups: usize, interval: Duration) -> anyhow::Result<Results> {
        let (track, echo) = (&self.track, &mut self.echo);
        let start = Instant::now();
        let mut results = Results::default();
        let mut outstanding = BTreeMap::new();
        let mut deadline = start + TIMEOUT;
        while results.sent < groups || results.returned + results.altered < groups {
            let next = start + interval * results.sent as u32;
            tokio::select! {
                () = sleep_until(next.into()), if results.sent < groups => {
                    let sequence = results.sent as u64;
                    outstanding.insert(sequence, Instant::now());
                    let mut group = track.create_group(group::Info { sequence })?;
                    for payload in payloads(sequence) {
                        group.write_frame(Timestamp::now(), payload)?;
                    }
                    group.finish()?;
                    results.sent += 1;
                    deadline = Instant::now() + interval + TIMEOUT;
                }
                group = echo.recv_group() => {
                    let mut group = group?.context("the echo ended")?;
                    let mut frames = Vec::new();
                    while let Some(frame) = timeout(TIMEOUT, group.read_frame()).await.context("an incomplete group")?? {
                        frames.push(frame.payload.to_vec());
                    }
                    match outstanding.remove(&group.sequence) {
                        Some(sent_at) if frames == payloads(group.sequence) => {
                            results.returned += 1;
                            results.round_trips.push(sent_at.elapsed());
                        }
                        _ => results.altered += 1,
                    }
                }
                () = sleep_until(deadline.into()) => break,
            }
        }
        Ok(results)
    }
}

/// The frames of a group, which differ from those of other groups.
fn payloads(sequence: u64) -> Vec<Vec<u8>> {
    let byte = |frame: u64, position: u64| (sequence * 31 + frame * 101 + position * 7) as u8;
    (0..FRAMES).map(|frame| (0..SIZE).map(|position| byte(frame, position)).collect()).collect()
}
