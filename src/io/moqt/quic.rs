//! How QUIC is configured, at both ends.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{HandshakeData, NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use rustls::client::danger::ServerCertVerifier;
use rustls::server::ResolvesServerCert;
use rustls::version::TLS13;

use crate::io::tls::provider;
use crate::moqt::Transport;
use crate::moqt::{ALPN_QUIC, ALPN_WEBTRANSPORT, Limits};

/// Bytes that may come and not be read yet: of a connection, and of one stream.
const RECEIVE_WINDOW: u32 = 4 << 20;
const STREAM_WINDOW: u32 = 1 << 20;

/// Bytes that the transport takes before they are acknowledged: what it has taken cannot be dropped for a slow reader any more.
const SEND_WINDOW: u64 = 1 << 20;

/// Bytes of datagrams that are kept, though nobody reads them: WebTransport demands that they may come.
const DATAGRAMS: usize = 16 << 10;

/// Connections that wait to be looked at, and what they may send meanwhile, in bytes: each, and all.
const INCOMING: usize = 256;
const INCOMING_BYTES: u64 = 16 << 10;
const INCOMING_BYTES_ALL: u64 = 1 << 20;

/// How often a client says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long a client waits for any sign of life.
const CLIENT_IDLE: Duration = Duration::from_secs(30);

pub(super) fn server(
    certificate: Arc<dyn ResolvesServerCert>,
    limits: &Limits,
    idle: Duration,
) -> Result<ServerConfig, rustls::Error> {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    tls.alpn_protocols = vec![ALPN_WEBTRANSPORT.to_vec(), ALPN_QUIC.to_vec()];
    let mut config =
        ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).map_err(|error| unfit(&error))?));
    config
        .transport_config(Arc::new(transport(limits, idle)))
        .max_incoming(INCOMING)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_ALL);
    Ok(config)
}

pub(super) fn client(
    verifier: Arc<dyn ServerCertVerifier>,
    over: Transport,
    limits: &Limits,
) -> Result<ClientConfig, rustls::Error> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    tls.alpn_protocols = vec![match over {
        Transport::Quic => ALPN_QUIC.to_vec(),
        Transport::WebTransport => ALPN_WEBTRANSPORT.to_vec(),
    }];
    let mut transport = transport(limits, CLIENT_IDLE);
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(|error| unfit(&error))?));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// What a connection negotiated, once its handshake is done.
pub(super) fn alpn(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

/// The provider has no cipher suite for QUIC's first packets: ours has.
fn unfit(error: &NoInitialCipherSuite) -> rustls::Error {
    rustls::Error::General(error.to_string())
}

fn transport(limits: &Limits, idle: Duration) -> TransportConfig {
    let count = |streams: usize| VarInt::try_from(streams as u64).unwrap_or(VarInt::MAX);
    let mut config = TransportConfig::default();
    config
        // No more than a session takes. The few that HTTP/3 has for itself are among them.
        .max_concurrent_bidi_streams(count(limits.conversations))
        .max_concurrent_uni_streams(count(limits.groups))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(Some(DATAGRAMS))
        // What is longer than QUIC can say is for ever.
        .max_idle_timeout(IdleTimeout::try_from(idle).ok());
    config
}
