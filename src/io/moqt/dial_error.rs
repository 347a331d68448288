//! Why a call came to nothing, with the way out.

use std::io;
use std::time::Duration;

use quinn::{ConnectionError, TransportErrorCode};
use rustls::AlertDescription;
use thiserror::Error;

use super::Target;
use super::webtransport::NoSession;
use crate::io::resolve::ResolveError;
use crate::io::tls::client::TrustError;
use crate::moqt::Transport;

/// Why there is no session to speak of.
#[derive(Debug, Error)]
pub enum DialError {
    /// The name.
    #[error(transparent)]
    Name(#[from] ResolveError),
    /// It is not on this machine, and would be believed whoever it is.
    #[error(transparent)]
    Afar(#[from] TrustError),
    /// The system gives no socket, thread or timer.
    #[error("cannot open a UDP socket: {0}")]
    Socket(io::Error),
    /// Nobody answers.
    #[error("{target} does not answer within {waited:?}: nobody listens there, or a firewall drops UDP")]
    Silent {
        /// Whom we called.
        target: Target,
        /// For how long.
        waited: Duration,
    },
    /// Something answers that is no such server.
    #[error("{target} speaks QUIC, but not {}: {}", .protocol, .way_out)]
    Protocol {
        /// Whom we called.
        target: Target,
        /// What it does not speak.
        protocol: &'static str,
        /// What to try.
        way_out: &'static str,
    },
    /// Its certificate is not believed.
    #[error("{target} has a certificate that is not believed: {reason}")]
    Certificate {
        /// Whom we called.
        target: Target,
        /// Why.
        reason: String,
    },
    /// It does not want us, or there is no understanding.
    #[error("the connection to {target} failed: {reason}")]
    Failed {
        /// Whom we called.
        target: Target,
        /// Why.
        reason: String,
    },
    /// WebTransport was refused.
    #[error("{target} refuses the WebTransport session: HTTP status {status}{}", if *.status == 404 { ", there is no such path; the --moqt-path of the server says which there is" } else { "" })]
    Status {
        /// Whom we called.
        target: Target,
        /// What it said.
        status: u16,
    },
    /// A stop was requested before there was a session.
    #[error("interrupted before there was a connection")]
    Interrupted,
}

/// What QUIC says instead of serving one more (RFC 9000, section 20.1).
const REFUSED: TransportErrorCode = TransportErrorCode::CONNECTION_REFUSED;

impl DialError {
    /// What a lost connection means for who called.
    pub(super) fn lost(target: &Target, error: &ConnectionError) -> Self {
        let target = target.clone();
        let no_alpn = TransportErrorCode::crypto(AlertDescription::NoApplicationProtocol.into());
        let (code, reason) = match error {
            ConnectionError::TransportError(error) => (error.code, error.reason.clone()),
            ConnectionError::ConnectionClosed(close) => {
                (close.error_code, String::from_utf8_lossy(&close.reason).into_owned())
            }
            error => return Self::Failed { target, reason: error.to_string() },
        };
        let theirs = matches!(error, ConnectionError::ConnectionClosed(_));
        if code == no_alpn {
            let (protocol, way_out) = match target.transport {
                Transport::Quic => ("MOQT of this kind (moq-00)", "try https:// with the same address"),
                Transport::WebTransport => ("HTTP/3", "try moqt:// with the same address"),
            };
            Self::Protocol { target, protocol, way_out }
        } else if code == REFUSED {
            Self::Failed { target, reason: "it refuses more connections for now".to_owned() }
        } else if !theirs && (0x100..0x200).contains(&u64::from(code)) {
            Self::Certificate { target, reason }
        } else {
            Self::Failed { target, reason: error.to_string() }
        }
    }

    /// What a WebTransport session that did not come about means for who called.
    pub(super) fn no_session(target: &Target, error: NoSession) -> Self {
        let target = target.clone();
        match error {
            NoSession::Status(status) => Self::Status { target, status: status.as_u16() },
            error => Self::Failed { target, reason: error.to_string() },
        }
    }
}
