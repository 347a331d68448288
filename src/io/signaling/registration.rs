//! Registers the echo server in a jamjam room: a thread connects, keeps the room open, and reconnects with backoff. Also selects the
//! address to advertise.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use std::{io, thread};

use axum::BoxError;
use rustls::ClientConfig;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::io::clock;
use crate::io::os;
use crate::io::signaling::client::{self, SERVER_REPLY_TIMEOUT, SignalingConnection};
use crate::io::stop::StopToken;
use crate::io::websocket::connect::WebSocketConnectError;
use crate::io::websocket::handshake::{UpgradeFailure, UrlError, WebSocketUrl};
use crate::machine;
use crate::signaling::NEWER_PATH;
use crate::signaling::client::{AddressCandidates, EchoParticipant, RegisteredRoom};
use crate::signaling::device::DeviceKey;

/// See [`SignalingConnection::connect`]. A connection that is lost silently, such as at a NAT, is replaced after 4 s.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// Interval between DNS lookups of the host names in `--public-addr` and `--stun`.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(60);

/// How long a new connection waits for the address of `--public-addr`. A later one is published when it is known.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Settings of a registration.
pub struct Registration {
    /// Returns the current URL of the signaling server. Called for each attempt, because a signaling server in this process may change its
    /// address.
    pub url: Box<dyn Fn() -> WebSocketUrl + Send>,
    /// TLS configuration for `wss` and `https`.
    pub tls: Arc<ClientConfig>,
    /// The device that the connection proves.
    pub device: DeviceKey,
    /// The member that creates the room.
    pub participant: EchoParticipant,
    /// The echo server's address.
    pub address: AdvertisedAddress,
    /// Finds the STUN server of `--stun`.
    pub stun: Option<StunResolver>,
    /// The mapped address from STUN. Without `--stun`, the sender is dropped.
    pub mapped_address: watch::Receiver<Option<SocketAddr>>,
    /// Receives the first room, once it exists and the address has been published there.
    pub first_room: Option<SyncSender<RegisteredRoom>>,
}

impl Registration {
    /// Registers on a new thread and reconnects until `stop` is requested. The thread is not joined: the end of the process closes the
    /// connection, and thereby ends the registration.
    pub fn spawn(mut self, stop: &StopToken) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stopped = stop.to_notify();
        thread::Builder::new().name("registration".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = stopped.notified() => {}
                    () = StunResolver::run(self.stun.take()) => {}
                    () = self.run() => {}
                }
            });
        })?;
        Ok(())
    }

    async fn run(mut self) {
        let mut last_error = String::new();
        loop {
            let url = (self.url)();
            let Err(error) = self.run_connection(&url, &mut last_error).await;
            wait_before_retry(&url, &error, &mut last_error).await;
        }
    }

    /// Runs one connection until it ends. Clears `last_error` when the room is joined, and not before, because even a server that hangs
    /// accepts connections.
    async fn run_connection(&mut self, url: &WebSocketUrl, last_error: &mut String) -> Result<Infallible, BoxError> {
        let attempt = async { Ok::<_, BoxError>(self.connect(url.websocket_url(&self.tls).await?).await?) };
        let no_answer =
            |_| format!("no answer within {} s. Check that the server is running", ATTEMPT_TIMEOUT.as_secs());
        let (mut connection, url) = timeout(ATTEMPT_TIMEOUT, attempt).await.map_err(no_answer)??;
        info!(target: "registration", url = %url, "connected");
        let (local, peer) = (connection.local_addr, connection.peer_addr);
        let resolve = |wait| {
            let address = self.address.clone();
            async move {
                sleep(wait).await;
                address.resolve_for(local, peer).await
            }
        };
        let mut resolving = Box::pin(resolve(Duration::ZERO));
        let mut host = None;
        if let Ok(found) = timeout(RESOLVE_TIMEOUT, &mut resolving).await {
            host = found;
            resolving = Box::pin(resolve(RESOLVE_INTERVAL));
        }
        let addresses = AddressCandidates { host, server_reflexive: *self.mapped_address.borrow() };
        self.participant.on_addresses(addresses);
        let may_get_address = self.mapped_address.has_changed().is_ok() || self.address.public_address.is_some();
        if addresses == AddressCandidates::default() && !may_get_address {
            let listening = self.address.listen_address;
            warn!(target: "registration", url = %url, %listening, "no address to advertise; set --public-addr or --stun");
        }
        connection.send(&self.participant.on_connected()).await?;
        let join_deadline = sleep(SERVER_REPLY_TIMEOUT);
        tokio::pin!(join_deadline);
        loop {
            let reply = tokio::select! {
                message = connection.recv() => {
                    let message = message.map_err(|failure| client::explain(&failure))?;
                    self.participant.on_message(message, clock::unix_ms())?
                }
                () = &mut join_deadline, if !self.participant.is_joined() => {
                    return Err("no reply from the server; is it a jamjam signaling server?".into());
                }
                Ok(()) = self.mapped_address.changed() => None,
                // Meanwhile, messages are read, even if the DNS server does not answer.
                found = &mut resolving => {
                    host = found;
                    resolving = Box::pin(resolve(RESOLVE_INTERVAL));
                    None
                }
            };
            let addresses = AddressCandidates { host, server_reflexive: *self.mapped_address.borrow() };
            for message in reply.into_iter().chain(self.participant.on_addresses(addresses)) {
                connection.send(&message).await?;
            }
            if let Some(room) = self.participant.joined_room() {
                last_error.clear();
                if let Some(first_room) = self.first_room.take() {
                    // The channel has space for one room, and may have no receiver.
                    let _ = first_room.try_send(room.clone());
                }
            }
        }
    }

    /// Connects to the path for newer clients on the server of `url`. If there is none, the server is an older one and the connection is to
    /// `url` itself. Returns the URL of the connection.
    async fn connect(&self, url: WebSocketUrl) -> Result<(SignalingConnection, WebSocketUrl), WebSocketConnectError> {
        let newer = newer_url(&url).unwrap_or_else(|_| url.clone());
        match SignalingConnection::connect(&newer, &self.tls, &self.device, PING_INTERVAL).await {
            Err(error @ WebSocketConnectError::Upgrade(_, UpgradeFailure::Status(..)))
                if newer != url && !error.is_transient() =>
            {
                Ok((SignalingConnection::connect(&url, &self.tls, &self.device, PING_INTERVAL).await?, url))
            }
            connected => Ok((connected?, newer)),
        }
    }
}

/// The URL for newer clients on the server whose URL for older clients is `url`.
fn newer_url(url: &WebSocketUrl) -> Result<WebSocketUrl, UrlError> {
    let base = url.path().trim_end_matches('/');
    let base = base.strip_suffix(NEWER_PATH).or_else(|| base.strip_suffix("/ws")).unwrap_or(base);
    url.with_path_and_query(&format!("{base}{NEWER_PATH}"), &[])
}

/// Keeps the address of the STUN server up to date. Its name may not be resolvable when the server starts, and may change its address.
pub struct StunResolver {
    /// Host and port.
    pub server: (String, u16),
    /// The address of the socket that sends the requests.
    pub listen_address: SocketAddr,
    /// Receives the address.
    pub address: watch::Sender<Option<SocketAddr>>,
}

impl StunResolver {
    /// Never completes.
    async fn run(this: Option<Self>) {
        let Some(Self { server: (host, port), listen_address, address }) = this else { return pending().await };
        let mut last_error = String::new();
        loop {
            let found = lookup_host((host.as_str(), port)).await.map_err(BoxError::from);
            match found.and_then(|found| usable_stun_server(found, listen_address).map_err(BoxError::from)) {
                Ok(found) => {
                    address.send_replace(Some(found));
                    last_error.clear();
                    sleep(RESOLVE_INTERVAL).await;
                }
                Err(error) => wait_before_retry(&format_args!("stun:{host}:{port}"), &error, &mut last_error).await,
            }
        }
    }
}

/// Returns the first address of the STUN server to which a socket bound to `listening` can send.
pub fn usable_stun_server(
    found: impl IntoIterator<Item = SocketAddr>,
    listening: SocketAddr,
) -> Result<SocketAddr, String> {
    let usable = found.into_iter().find_map(|address| match (listening.ip(), address.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => Some(address),
        // A dual-stack socket.
        (IpAddr::V6(ip), IpAddr::V4(v4)) if ip.is_unspecified() => {
            Some(SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()))
        }
        _ => None,
    });
    let (has, listens_on) = if listening.is_ipv4() { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
    usable.ok_or_else(|| {
        format!(
            "the STUN server has only {has} addresses, but the echo server listens on {listens_on}. Give --host ::, a --host address of \
             {has}, or another STUN server"
        )
    })
}

/// Maximum time for discovery and for the connections to the paths of newer and older clients together. With the longest delay before the next
/// attempt, an echo server is back in its room 5 s after its signaling server is reachable again, whatever the attempt in between waits for.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);

/// Maximum delay between two attempts.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(1);

// The server is reachable again just after an attempt has begun, or after the last answer of a lost connection.
const _: () = assert!(ATTEMPT_TIMEOUT.as_millis() + MAX_RETRY_DELAY.as_millis() <= 5_000);
const _: () = assert!(2 * PING_INTERVAL.as_millis() + MAX_RETRY_DELAY.as_millis() <= 5_000);

/// Waits after a failed attempt to reach `url`, and logs it. A repeated error is logged only at the debug level.
async fn wait_before_retry(url: &impl Display, error: &BoxError, last_error: &mut String) {
    // All clients would otherwise reconnect at once after a restart.
    let [chance] = os::random_u64s();
    sleep(MAX_RETRY_DELAY.mul_f64(0.5 + 0.5 * (chance as f64 / u64::MAX as f64))).await;
    // The server may have closed the connection because this process ends: then this is not reached.
    let message = error.to_string();
    if message == *last_error {
        debug!(target: "registration", %url, error = %message, "failed, retrying");
    } else {
        warn!(target: "registration", %url, error = %message, "failed, retrying");
        *last_error = message;
    }
}

/// What determines the address that the echo server advertises.
#[derive(Clone, Debug)]
pub struct AdvertisedAddress {
    /// Listen address of the echo server.
    pub listen_address: SocketAddr,
    /// Host and port from `--public-addr`; the port defaults to the listen port.
    pub public_address: Option<(String, Option<u16>)>,
}

impl AdvertisedAddress {
    /// The address to advertise to clients of the signaling server at `peer`. `local` is this host's address on the connection to that
    /// server.
    async fn resolve_for(&self, local: SocketAddr, peer: SocketAddr) -> Option<SocketAddr> {
        let Some((host, port)) = &self.public_address else {
            return address_for_peer(self.listen_address, local.ip().to_canonical(), peer.ip().to_canonical());
        };
        let port = port.unwrap_or(self.listen_address.port());
        let found = match lookup_host((host.as_str(), port)).await {
            Ok(found) => found.min_by_key(SocketAddr::is_ipv6),
            Err(error) => {
                warn!(target: "registration", host = %host, error = %error, "cannot resolve --public-addr");
                None
            }
        };
        found.filter(|address| !address.ip().is_unspecified())
    }
}

/// The address at which other clients of the signaling server reach a socket bound to `listening`. `local` and `peer` are the addresses of
/// this host and the server on the connection between them.
fn address_for_peer(listening: SocketAddr, local: IpAddr, peer: IpAddr) -> Option<SocketAddr> {
    let (ip, port) = (listening.ip().to_canonical(), listening.port());
    if is_link_local(ip) {
        // A client needs a scope id to use a link-local address. This host does not know the client's scope id.
        return None;
    }
    if !ip.is_unspecified() {
        let is_reachable = peer.is_loopback() || !ip.is_loopback();
        return is_reachable.then_some(SocketAddr::new(ip, port));
    }
    let same_family = local.is_ipv4() == ip.is_ipv4() || ip.is_ipv6();
    // The clients of a signaling server in a private network, which may be an overlay network, can reach this host's local address.
    let near = peer == local || peer.is_loopback() || machine::scope(peer) != "global";
    let usable = same_family && near && !local.is_unspecified() && !is_link_local(local);
    usable.then_some(SocketAddr::new(local, port))
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::client::StopSignal;
    use crate::io::tls::client::TrustPolicy;

    use super::*;

    #[test]
    fn registration_follows_a_changed_url() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let urls = listeners.each_ref().map(|listener| {
            let address = listener.local_addr().expect("an address");
            format!("ws://{address}").parse::<WebSocketUrl>().expect("a URL")
        });
        let has_moved = AtomicBool::new(false);
        let url = move || urls[usize::from(has_moved.swap(true, Ordering::SeqCst))].clone();
        let address =
            AdvertisedAddress { listen_address: SocketAddr::from(([127, 0, 0, 1], 5_000)), public_address: None };
        let participant = EchoParticipant::new("x", Duration::ZERO, None);
        let tls = TrustPolicy { accept_any: true, ..TrustPolicy::default() }.client_config().expect("TLS");
        let stop = StopToken::default();
        Registration {
            url: Box::new(url),
            tls,
            device: DeviceKey::from_seed(&[1; 32]),
            participant,
            address,
            stun: None,
            mapped_address: watch::channel(None).1,
            first_room: None,
        }
        .spawn(&stop)
        .expect("a thread");
        // The first server closes the connection, and the second attempt uses the second URL.
        for listener in listeners {
            drop(listener.accept().expect("a connection"));
        }
        stop.request(StopSignal::Terminate);
    }

    #[test]
    fn unreachable_addresses_are_never_advertised() {
        for (listening, local, peer, expected) in [
            // A listen address that is neither a wildcard nor a link-local address is advertised. Exception: a loopback address is
            // advertised only if the signaling server is on loopback too.
            ("192.0.2.1:5000", "192.0.2.1", "198.51.100.7", Some("192.0.2.1:5000")),
            ("127.0.0.1:5000", "127.0.0.1", "127.0.0.1", Some("127.0.0.1:5000")),
            ("127.0.0.1:5000", "192.0.2.1", "198.51.100.7", None),
            // These listen addresses are wildcard addresses (`0.0.0.0`). A signaling server on this host or in a private network receives
            // the local address. If the signaling server is another host with a public IP address, no address is advertised.
            ("0.0.0.0:6000", "192.168.1.5", "192.168.1.9", Some("192.168.1.5:6000")),
            ("0.0.0.0:5000", "100.100.1.2", "100.101.0.1", Some("100.100.1.2:5000")),
            ("0.0.0.0:5000", "192.168.1.5", "198.51.100.7", None),
            ("0.0.0.0:5000", "100.128.0.1", "100.128.0.2", None),
            // The signaling server runs on this host, which has a public address.
            ("0.0.0.0:5000", "198.51.100.7", "198.51.100.7", Some("198.51.100.7:5000")),
            // `[::]` listens on IPv4 too, `0.0.0.0` on IPv4 only.
            ("[::]:5000", "192.168.1.5", "192.168.1.9", Some("192.168.1.5:5000")),
            ("[::]:5000", "fd00::5", "fd00::9", Some("[fd00::5]:5000")),
            ("0.0.0.0:5000", "fd00::5", "fd00::9", None),
            // Link-local addresses need a scope id.
            ("[::]:5000", "fe80::5", "fe80::9", None),
            ("[fe80::5]:5000", "fe80::5", "fe80::9", None),
        ] {
            let found = address_for_peer(listening.parse().unwrap(), local.parse().unwrap(), peer.parse().unwrap());
            let expected = expected.map(|expected| expected.parse().unwrap());
            assert_eq!(found, expected, "{listening} towards {peer} from {local}");
        }
    }
}
