//! What a person can do about a connection that was not made: the libraries' words, where they are not a person's, and the way out.

use std::io;

use rustls::{Error as Tls, InvalidMessage};
use tungstenite::Error as Broken;
use tungstenite::error::ProtocolError;
use tungstenite::http::StatusCode;

use crate::io::tls::disbelief;
use crate::rooms::harmless::harmless;

/// Why a TLS handshake came to nothing.
pub(super) fn on_tls(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        // The first byte of an HTTP answer is no TLS record.
        Some(Tls::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "what answers there is no TLS; is it ws:// in place of wss://?".to_owned()
        }
        Some(Tls::InvalidCertificate(why)) => disbelief::advice(why),
        _ => error.to_string(),
    }
}

/// Why a connection did not become a WebSocket.
pub(super) fn on_upgrade(error: &Broken) -> String {
    match error {
        Broken::Http(answer) if answer.status().is_redirection() => {
            let to = answer.headers().get("location").map(|to| harmless(&String::from_utf8_lossy(to.as_bytes())));
            let to = to.unwrap_or_else(|| "it does not say where".to_owned());
            format!("it answers HTTP {} and sends clients elsewhere ({to}); give that address", answer.status())
        }
        Broken::Http(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => {
            format!("it answers HTTP {}; it is full, or not ready yet", answer.status())
        }
        Broken::Http(answer) => {
            format!("it answers HTTP {}; a signaling server is usually at / or /ws, without a query", answer.status())
        }
        // A TLS server answers with an alert.
        Broken::Protocol(ProtocolError::HttparseError(_)) => {
            "what answers there is no HTTP; is it wss:// in place of ws://?".to_owned()
        }
        _ => error.to_string(),
    }
}
