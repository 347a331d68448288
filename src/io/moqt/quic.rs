//! QUIC configuration of server and client, and the UDP sockets of a server.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use rustls::client::danger::ServerCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;

use crate::io::tls::crypto_provider;
use crate::io::udp::{self, BindError, BoundSocket};
use crate::lock::lock;
use crate::moqt::version::{MoqtVersion, UNSUPPORTED_ALPNS, alpns, offer_text};
use crate::moqt::{ALPN_WEBTRANSPORT, SessionLimits};

/// Flow-control window of a connection and of each stream, in bytes, which a peer that sends out of order makes the transport hold. 512 KiB
/// permit 80 Mbit/s at a round-trip time of 50 ms.
const RECEIVE_WINDOW: u32 = 512 << 10;

/// Maximum number of unacknowledged bytes. The limit is low, because data in the QUIC send buffer cannot be dropped for a slow reader.
const SEND_WINDOW: u64 = 512 << 10;

/// Memory of a connection without its streams and the data of its session, in bytes. The receive window counts 2.5 times: received data that
/// waits for earlier data pins whole datagrams, and quinn copies it only when the datagrams have 1.5 times its length more.
pub(super) const CONNECTION_BYTES: u64 = (64 << 10) + RECEIVE_WINDOW as u64 * 5 / 2 + SEND_WINDOW;

/// Bytes that each stream of the peer may pin even if it has received little data: datagrams of which only one byte is data, and the list of
/// the ranges that have arrived.
pub(super) const STREAM_BYTES: u64 = 96 << 10;

/// Receive buffer for QUIC datagrams, in bytes. The datagrams are not read, but WebTransport requires support for them.
const DATAGRAM_RECEIVE_BUFFER_BYTES: usize = 16 << 10;

/// Limits on connections that are not accepted yet: number, buffered bytes per connection, and total buffered bytes.
const MAX_INCOMING: usize = 256;
const INCOMING_BUFFER_BYTES: u64 = 16 << 10;
const INCOMING_BUFFER_TOTAL_BYTES: u64 = 1 << 20;

/// Interval between a client's keep-alive packets.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A client's idle timeout.
const CLIENT_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of attempts to find a port that is free on all addresses.
const MAX_BIND_ATTEMPTS: usize = 16;

/// Binds a socket to each address, in their order. If the port is 0, all sockets get the same free port. `[::]` also accepts IPv4.
pub fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<BoundSocket>, BindError> {
    let mut attempt = 1;
    loop {
        match try_bind_all(addresses) {
            // The port that the system chose for the first address is in use on another address.
            Err(BindError::AddrInUse(_))
                if attempt < MAX_BIND_ATTEMPTS && addresses.iter().all(|address| address.port() == 0) =>
            {
                attempt += 1;
            }
            bound => return bound,
        }
    }
}

fn try_bind_all(addresses: &[SocketAddr]) -> Result<Vec<BoundSocket>, BindError> {
    let mut sockets: Vec<BoundSocket> = Vec::new();
    for mut address in addresses.iter().copied() {
        if let (0, Some(first)) = (address.port(), sockets.first()) {
            address.set_port(first.address.port());
        }
        sockets.push(udp::bind(address, udp::DEFAULT_RECEIVE_BUFFER)?);
    }
    Ok(sockets)
}

/// Supported ALPNs of the server, the preferred one first.
fn server_alpns() -> impl Iterator<Item = &'static [u8]> {
    [ALPN_WEBTRANSPORT].into_iter().chain(alpns(&MoqtVersion::ALL).into_iter().map(str::as_bytes))
}

/// ALPNs with which a handshake succeeds.
fn accepted_alpns() -> impl Iterator<Item = &'static [u8]> {
    server_alpns().chain(UNSUPPORTED_ALPNS.into_iter().map(str::as_bytes))
}

/// Resolves the certificate of a server, and records which ALPNs a client offered if the server accepts none of them. The TLS library
/// does not report them.
#[derive(Debug)]
pub(super) struct AlpnRecorder {
    inner: Arc<dyn ResolvesServerCert>,
    unsupported: Mutex<Option<String>>,
}

impl AlpnRecorder {
    pub(super) fn new(inner: Arc<dyn ResolvesServerCert>) -> Arc<Self> {
        Arc::new(Self { inner, unsupported: Mutex::new(None) })
    }

    /// Why the last handshake without a common ALPN failed. If several such handshakes fail at once, only the last one has a reason.
    pub(super) fn take_reason(&self) -> Option<String> {
        lock(&self.unsupported).take()
    }
}

impl ResolvesServerCert for AlpnRecorder {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered: Vec<&[u8]> = client_hello.alpn().into_iter().flatten().collect();
        if !accepted_alpns().any(|alpn| offered.contains(&alpn)) {
            let offered: Vec<_> = offered.into_iter().map(String::from_utf8_lossy).collect();
            let supported: Vec<_> = server_alpns().map(String::from_utf8_lossy).collect();
            let (offered, supported) = (offer_text(&offered), supported.join(", "));
            let reason = format!("no common ALPN: offered {offered}, supported {supported}");
            *lock(&self.unsupported) = Some(reason);
        }
        self.inner.resolve(client_hello)
    }
}

pub(super) fn server_config(
    certificate: Arc<dyn ResolvesServerCert>,
    limits: &SessionLimits,
    idle_timeout: Duration,
) -> Result<ServerConfig, Box<dyn StdError + Send + Sync>> {
    let mut tls = rustls::ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    tls.alpn_protocols = accepted_alpns().map(<[u8]>::to_vec).collect();
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config
        .transport_config(Arc::new(transport_config(limits, idle_timeout)))
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL_BYTES);
    Ok(config)
}

pub(super) fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    alpns: Vec<Vec<u8>>,
    limits: &SessionLimits,
) -> Result<ClientConfig, Box<dyn StdError + Send + Sync>> {
    let mut tls = rustls::ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    tls.alpn_protocols = alpns;
    let mut quic = transport_config(limits, CLIENT_IDLE_TIMEOUT);
    quic.keep_alive_interval(Some(KEEP_ALIVE_INTERVAL));
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(quic));
    Ok(config)
}

/// The negotiated ALPN. It is known only after the handshake.
pub(super) fn negotiated_alpn(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

fn transport_config(limits: &SessionLimits, idle_timeout: Duration) -> TransportConfig {
    let count = |streams: usize| VarInt::try_from(streams as u64).unwrap_or(VarInt::MAX);
    let mut config = TransportConfig::default();
    config
        // HTTP/3's own streams count towards these limits.
        .max_concurrent_bidi_streams(count(limits.max_bidi_streams))
        .max_concurrent_uni_streams(count(limits.max_incoming_groups))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER_BYTES))
        // A timeout that QUIC cannot represent is disabled.
        .max_idle_timeout(IdleTimeout::try_from(idle_timeout).ok());
    config
}
