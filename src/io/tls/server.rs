//! The server's end of a handshake: it ends in time, and whoever fails it is counted, and told of in the log.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::AlertDescription;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::identity::Identity;
use crate::io::complaints::Complaints;
use crate::stats::Count;

/// Handshakes of one server.
pub struct Handshakes {
    acceptor: TlsAcceptor,
    failed: Count,
    complaints: Complaints,
}

impl std::fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshakes").field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl Handshakes {
    /// Handshakes as `identity`.
    pub fn new(identity: &Identity) -> Self {
        let acceptor = TlsAcceptor::from(identity.config.clone());
        Self { acceptor, failed: Count::default(), complaints: Complaints::default() }
    }

    /// Handshakes so far that came to nothing.
    pub fn failed(&self) -> u64 {
        self.failed.get()
    }

    /// Shakes hands over `stream`, for `patience` at most.
    pub async fn accept(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        patience: Duration,
    ) -> Option<TlsStream<TcpStream>> {
        let why = match tokio::time::timeout(patience, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) if is_gone(&error) => {
                // A load balancer that looks whether anybody is here, or a person who changed their mind.
                debug!("{from} went away before the end of the TLS handshake");
                self.failed.add(1);
                return None;
            }
            Ok(Err(error)) => reason(&error),
            Err(_) => "it took too long".to_owned(),
        };
        self.failed.add(1);
        if self.complaints.may() {
            warn!("TLS handshake with {from} failed: {why}");
        }
        None
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn reason(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        // The first byte of "GET" is no TLS record.
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            "what came is no TLS; clients of this port need wss:// or https://".to_owned()
        }
        // Whatever it is that they do not like about the certificate, libraries name it differently.
        Some(rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError),
        )) => format!("the client does not believe the certificate ({alert:?})"),
        Some(rustls::Error::NoApplicationProtocol) => "the client wants another protocol than HTTP/1.1".to_owned(),
        _ => error.to_string(),
    }
}
