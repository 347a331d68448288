//! TLS handshakes of servers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::server::NoServerSessionStorage;
use rustls::{AlertDescription, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::identity::ServerIdentity;
use super::{crypto_provider, is_disconnect};
use crate::io::log::SharedLogThrottle;

/// The error of a plain HTTP request to a TLS port. Clients of WebSocket servers know the beginning as a text of Go's servers.
pub const PLAIN_HTTP_ERROR: &str = "HTTP request to an HTTPS server: use https:// or wss:// on this port";

/// A connection whose first bytes have arrived.
#[derive(Debug)]
pub enum AcceptedStream {
    /// The handshake is complete.
    Tls(Box<TlsStream<TcpStream>>),
    /// The client sends plain HTTP. It should receive an error that it can read.
    PlainHttp(TcpStream),
}

/// Performs the server side of TLS handshakes. Counts and logs failed handshakes.
#[derive(Debug)]
pub struct HandshakeAcceptor {
    config: Arc<ServerConfig>,
    /// Certificate and key.
    pub identity: Arc<ServerIdentity>,
    /// Number of failed handshakes.
    pub failed: AtomicU64,
    failure_throttle: SharedLogThrottle,
}

impl HandshakeAcceptor {
    /// Accepts TLS handshakes with the certificate and key of `identity`.
    pub fn new(identity: Arc<ServerIdentity>) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<ServerIdentity>::clone(&identity));
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        // A resumed session would use the certificate of its first handshake, even after a reload.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let config = Arc::new(config);
        Ok(Self { config, identity, failed: AtomicU64::default(), failure_throttle: SharedLogThrottle::default() })
    }

    /// Accepts a handshake over `stream` within `timeout`.
    pub async fn accept(&self, stream: TcpStream, source: SocketAddr, timeout: Duration) -> Option<AcceptedStream> {
        let handshake = async {
            let mut first = [0];
            stream.peek(&mut first).await?;
            // The first byte of an HTTP method; a TLS handshake begins with 0x16 (RFC 8446, section 5.1).
            if first[0].is_ascii_alphabetic() {
                return Ok(AcceptedStream::PlainHttp(stream));
            }
            let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
            // The encrypted data that waits for a client is limited to one record.
            let stream = acceptor.accept_with(stream, |tls| tls.set_buffer_limit(Some(16 << 10))).await?;
            Ok(AcceptedStream::Tls(Box::new(stream)))
        };
        let reason = match tokio::time::timeout(timeout, handshake).await {
            Ok(Ok(plain @ AcceptedStream::PlainHttp(_))) => {
                self.on_failure(source, PLAIN_TEXT);
                return Some(plain);
            }
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) if is_disconnect(&error) => {
                // The client disconnected, for example after a health check of a load balancer.
                debug!(target: "tls", %source, "connection closed during handshake");
                self.failed.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            Ok(Err(error)) => failure_reason(&error),
            Err(_) => "timed out".to_owned(),
        };
        self.on_failure(source, &reason);
        None
    }

    fn on_failure(&self, source: SocketAddr, reason: &str) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        if self.failure_throttle.allow() {
            warn!(target: "tls", %source, reason, "handshake failed");
        }
    }
}

/// The client sent bytes that are not TLS.
const PLAIN_TEXT: &str = "not TLS; clients must use wss:// or https:// on this port";

fn failure_reason(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => PLAIN_TEXT.to_owned(),
        // TLS libraries use different alerts to reject a certificate.
        Some(rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError),
        )) => format!("the client rejected the certificate ({alert:?})"),
        Some(rustls::Error::NoApplicationProtocol) => "the client does not offer HTTP/1.1".to_owned(),
        _ => error.to_string(),
    }
}
