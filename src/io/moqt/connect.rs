//! Connects to a MOQT server in three timed steps: name resolution, QUIC handshake and WebTransport request. The ALPN or the protocol of the
//! WebTransport session may select the version.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, TransportErrorCode};
use rustls::AlertDescription;
use rustls::client::danger::ServerCertVerifier;
use thiserror::Error;
use url::Url;
use web_transport_proto::ConnectError;

use super::no_reply::PortUse;
use super::webtransport::{TransportConnection, WebTransportSession};
use super::{MoqtUrl, quic};
use crate::address::without_zone;
use crate::client::MoqtConnectTimes;
use crate::io::local_socket::LocalSocketOptions;
use crate::io::resolve::{ResolveError, lookup};
use crate::io::tls::client::{TrustError, TrustPolicy};
use crate::moqt::version::{alpns, offer_text};
use crate::moqt::{ALPN_WEBTRANSPORT, MoqtVersion, SessionLimits, Transport};
use crate::time::saturating_nanos;

/// Timeout of name resolution. The system resolver tries a second server after 5 s.
const DNS_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time per address before the next address is tried; shorter if a server has many addresses. The last address may take the full
/// setup time-out, so that all attempts together take at most twice that time.
const NEXT_ADDRESS_TIMEOUT: Duration = Duration::from_secs(1);

/// Time to send the connection close, and to retransmit a lost connection close.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

/// Connection options.
#[derive(Clone, Debug)]
pub struct MoqtConnectOptions {
    /// The server.
    pub url: MoqtUrl,
    /// Verifies the server certificate.
    pub verifier: Arc<dyn ServerCertVerifier>,
    /// The policy that `verifier` implements. If this policy accepts every certificate, all addresses of the server must be
    /// loopback addresses. Otherwise, the connection attempt fails.
    pub trust: TrustPolicy,
    /// Offered versions, the preferred one first; not empty.
    pub offered_versions: Vec<MoqtVersion>,
    /// Session limits. `setup_timeout` applies to each part of the setup: QUIC handshake, WebTransport request, MOQT
    /// setup.
    pub limits: SessionLimits,
    /// How to open the socket.
    pub socket_options: LocalSocketOptions,
}

impl MoqtConnectOptions {
    /// Default options.
    pub fn new(url: MoqtUrl, verifier: Arc<dyn ServerCertVerifier>) -> Self {
        let offered_versions = MoqtVersion::ALL.to_vec();
        let (trust, limits) = (TrustPolicy::default(), SessionLimits::default());
        let socket_options = LocalSocketOptions::default();
        Self { url, verifier, trust, offered_versions, limits, socket_options }
    }

    /// The path without its leading slash, to be tried if the server does not reply. `None` over WebTransport.
    pub(super) fn path_without_slash(&self) -> Option<&str> {
        let MoqtUrl { path, transport, .. } = &self.url;
        path.strip_prefix('/').filter(|alternative_path| *transport == Transport::Quic && !alternative_path.is_empty())
    }

    fn failed(&self, reason: &dyn Display) -> MoqtConnectError {
        MoqtConnectError::Failed(format!("cannot connect to {}: {reason}", self.url))
    }
}

/// Reason why no session was established.
#[derive(Debug, Error)]
pub enum MoqtConnectError {
    /// Name resolution failed.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The server is remote and any certificate would be accepted.
    #[error(transparent)]
    InsecureRemote(#[from] TrustError),
    /// The system cannot provide an event loop.
    #[error("cannot start the event loop of the network client: {0}")]
    EventLoop(io::Error),
    /// The system cannot provide a socket.
    #[error("cannot open a UDP socket: {0}")]
    Socket(io::Error),
    /// No reply.
    #[error("no reply from {url}: {port_use}")]
    TimedOut {
        /// The server.
        url: MoqtUrl,
        /// The first address of the server.
        address: SocketAddr,
        /// What listens on the port.
        port_use: PortUse,
    },
    /// The server rejected the session. It speaks another protocol, selected no offered version, or answered with an HTTP error.
    #[error("{0}")]
    Rejected(String),
    /// The certificate was rejected for this reason.
    #[error("certificate not accepted: {0}")]
    InvalidCertificate(String),
    /// Any other failure.
    #[error("{0}")]
    Failed(String),
    /// A stop was requested before the session was established.
    #[error("interrupted before the connection was established")]
    Interrupted,
}

/// A connection that is ready for a session.
pub(super) struct Connected {
    pub(super) endpoint: Endpoint,
    pub(super) transport: TransportConnection,
    pub(super) connect_times: MoqtConnectTimes,
    /// The version, unless the setup messages select it.
    pub(super) version: Option<MoqtVersion>,
}

/// Connects to a server.
pub(super) async fn connect(options: &MoqtConnectOptions) -> Result<Connected, MoqtConnectError> {
    let MoqtConnectOptions { url, verifier, trust, limits, socket_options, .. } = options;
    let started_at = Instant::now();
    let found = tokio::time::timeout(DNS_TIMEOUT, lookup(&url.host, url.port, socket_options)).await;
    let addresses = found.unwrap_or_else(|elapsed| Err(ResolveError::Lookup(url.host.clone(), elapsed.into())))?;
    let name = started_at.elapsed();
    trust.require_loopback_if_insecure(&addresses)?;
    let protocols = alpns(&options.offered_versions);
    let quic_alpns = match url.transport {
        Transport::Quic => protocols.iter().map(|alpn| alpn.as_bytes().to_vec()).collect(),
        Transport::WebTransport => vec![ALPN_WEBTRANSPORT.to_vec()],
    };
    let config = quic::client_config(verifier.clone(), quic_alpns, limits).map_err(|error| options.failed(&error))?;
    let started_at = Instant::now();
    let (endpoint, connection) = connect_quic(options, &addresses, &config).await?;
    let mut connect_times = MoqtConnectTimes {
        dns_ns: Some(saturating_nanos(name)),
        quic_ns: Some(saturating_nanos(started_at.elapsed())),
        ..MoqtConnectTimes::default()
    };
    let (transport, version) = match url.transport {
        Transport::Quic => {
            let alpn = quic::negotiated_alpn(&connection).unwrap_or_default();
            (TransportConnection { connection, session: None }, MoqtVersion::from_alpn(&alpn))
        }
        Transport::WebTransport => {
            let started_at = Instant::now();
            let (session, protocol) = connect_webtransport(options, &protocols, &connection).await?;
            connect_times.webtransport_ns = Some(saturating_nanos(started_at.elapsed()));
            let version = selected_version(url, &options.offered_versions, protocol)?;
            (TransportConnection { connection, session: Some(session) }, version)
        }
    };
    Ok(Connected { endpoint, transport, connect_times, version })
}

/// The version that the server selected for a WebTransport session. `Ok(None)` if the setup messages select it. This is also the case if
/// the server selects no protocol, because servers of gomoqt do not know the negotiation.
fn selected_version(
    url: &MoqtUrl,
    offered_versions: &[MoqtVersion],
    selected: Option<String>,
) -> Result<Option<MoqtVersion>, MoqtConnectError> {
    let protocols = alpns(offered_versions);
    let has_setup = offered_versions.iter().any(|version| version.rules().session_code.is_some());
    match &selected {
        None if has_setup => Ok(None),
        Some(selected) if protocols.contains(&selected.as_str()) => Ok(MoqtVersion::from_alpn(selected.as_bytes())),
        _ => {
            let offered = offer_text(&protocols);
            let selected = selected.map_or("none (no wt-protocol)".to_owned(), |selected| offer_text(&[selected]));
            Err(MoqtConnectError::Rejected(format!(
                "no common MOQT version with {url}: offered {offered} (wt-available-protocols), and the server selected {selected}"
            )))
        }
    }
}

/// Tries the addresses in order.
async fn connect_quic(
    options: &MoqtConnectOptions,
    addresses: &[SocketAddr],
    config: &ClientConfig,
) -> Result<(Endpoint, Connection), MoqtConnectError> {
    let (url, socket_options, timeout) = (&options.url, &options.socket_options, options.limits.setup_timeout);
    // The resolver returns at least one address.
    let mut error = MoqtConnectError::TimedOut { url: url.clone(), address: addresses[0], port_use: PortUse::Silent };
    let address_count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for (index, address) in addresses.iter().enumerate() {
        let endpoint = match Endpoint::client(socket_options.address_for(*address)) {
            Ok(endpoint) => endpoint,
            Err(failed) => {
                let failed = match socket_options.local_address {
                    Some(local) => io::Error::new(failed.kind(), format!("--bind {}: {failed}", local.ip())),
                    None => failed,
                };
                error = MoqtConnectError::Socket(failed);
                continue;
            }
        };
        let connecting = endpoint.connect_with(config.clone(), *address, without_zone(&url.host));
        let connecting = connecting.map_err(|error| options.failed(&error))?;
        let attempt_timeout =
            if index + 1 < addresses.len() { NEXT_ADDRESS_TIMEOUT.min(timeout / address_count) } else { timeout };
        match tokio::time::timeout(attempt_timeout, connecting).await {
            Ok(Ok(connection)) => return Ok((endpoint, connection)),
            // The server replied, so another address would give the same result.
            Ok(Err(error)) => return Err(MoqtConnectError::from_connection_error(options, &error)),
            Err(_) => {}
        }
    }
    Err(error)
}

/// Requests a WebTransport session.
async fn connect_webtransport(
    options: &MoqtConnectOptions,
    protocols: &[&str],
    connection: &Connection,
) -> Result<(WebTransportSession, Option<String>), MoqtConnectError> {
    let (url, timeout) = (&options.url, options.limits.setup_timeout);
    let request_url: Url = url.with_query().parse().map_err(|error: url::ParseError| options.failed(&error))?;
    match tokio::time::timeout(timeout, WebTransportSession::connect(connection, request_url, protocols)).await {
        Ok(Ok(session)) => Ok(session),
        Ok(Err(ConnectError::WrongStatus(Some(status)) | ConnectError::ErrorStatus(status))) => {
            let hint = if status == StatusCode::NOT_FOUND { "; our server has the path /echo" } else { "" };
            let status = status.as_u16();
            let reason = format!("{url} rejected the WebTransport session: HTTP status {status}{hint}");
            Err(MoqtConnectError::Rejected(reason))
        }
        // This error reports only a lost or malformed stream. The close reason of the connection is more specific.
        Ok(Err(error)) => Err(match connection.close_reason() {
            Some(error) => MoqtConnectError::from_connection_error(options, &error),
            None => options.failed(&error),
        }),
        Err(_) => Err(options.failed(&format!("no response to the WebTransport request within {timeout:?}"))),
    }
}

impl MoqtConnectError {
    /// Classifies a lost connection.
    fn from_connection_error(options: &MoqtConnectOptions, error: &ConnectionError) -> Self {
        let url = &options.url;
        let no_alpn = TransportErrorCode::crypto(AlertDescription::NoApplicationProtocol.into());
        let (code, reason) = match error {
            ConnectionError::TransportError(error) => (error.code, error.reason.clone()),
            ConnectionError::ConnectionClosed(close) => {
                (close.error_code, String::from_utf8_lossy(&close.reason).into_owned())
            }
            error => return options.failed(error),
        };
        let by_peer = matches!(error, ConnectionError::ConnectionClosed(_));
        if code == no_alpn {
            let (protocol, hint) = match url.transport {
                Transport::Quic => {
                    let offered = alpns(&options.offered_versions);
                    let hint = if offered == alpns(&MoqtVersion::ALL) {
                        "try https:// with the same address"
                    } else {
                        "omit --moqt-version to offer all versions, or try https:// with the same address"
                    };
                    (format!("MOQT over raw QUIC ({})", offered.join(", ")), hint)
                }
                Transport::WebTransport => ("HTTP/3".to_owned(), "try moqt:// with the same address"),
            };
            Self::Rejected(format!("{url} supports QUIC, but not {protocol}; {hint}"))
        } else if code == TransportErrorCode::CONNECTION_REFUSED {
            options.failed(&"the server accepts no more connections at the moment")
        } else if !by_peer && (0x100..0x200).contains(&u64::from(code)) {
            Self::InvalidCertificate(reason)
        } else {
            options.failed(&error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_of_the_server_selects_the_version_or_is_named() -> Result<(), super::super::ParseMoqtUrlError> {
        let url: MoqtUrl = "https://h/echo".parse()?;
        let all = &MoqtVersion::ALL[..];
        let select = |offered: &[MoqtVersion], name: Option<&str>| {
            selected_version(&url, offered, name.map(str::to_owned)).map_err(|error| error.to_string())
        };
        assert_eq!(select(all, Some("moq-lite-03")), Ok(Some(MoqtVersion::Lite03)));
        assert_eq!((select(all, Some("moq-00")), select(all, None)), (Ok(None), Ok(None)));
        let lite = &[MoqtVersion::Lite04];
        let server = "no common MOQT version with https://h:4443/echo: offered moq-lite-04 (wt-available-protocols), and the server selected";
        assert_eq!(select(lite, None), Err(format!("{server} none (no wt-protocol)")));
        assert_eq!(select(lite, Some("moq-lite-03")), Err(format!("{server} moq-lite-03")));
        assert_eq!(select(lite, Some("a\u{1b}")), Err(format!("{server} a\u{fffd}")));
        Ok(())
    }
}
