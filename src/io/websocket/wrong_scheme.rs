//! Finds out why a WebSocket connection failed: whether the server requires TLS although the URL begins with `ws://`, or does not use TLS
//! although the URL begins with `wss://`. Many servers close such a connection without an answer. Therefore, the client connects once more
//! in the other way.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Error as Tls, InvalidMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::io::tls::client::TrustPolicy;
use crate::io::websocket::connect::{WebSocketConnectError, is_disconnect};
use crate::io::websocket::handshake::{ClientHandshake, UpgradeFailure, WebSocketUrl};

/// Maximum duration of the second connection.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// The content types of TLS records that a server may send first: alert and handshake (RFC 8446, section 5.1).
const TLS_FIRST_RECORDS: [u8; 2] = [0x15, 0x16];

/// Replaces `error` by a more specific one if the scheme of the URL is wrong. `address` is the address of the failed connection.
pub(in crate::io) async fn explain(error: WebSocketConnectError, address: SocketAddr) -> WebSocketConnectError {
    match error {
        WebSocketConnectError::Upgrade { address, error: UpgradeFailure::Closed | UpgradeFailure::Io(_) }
            if answers_tls(address).await =>
        {
            WebSocketConnectError::Upgrade { address, error: UpgradeFailure::TlsRequired }
        }
        WebSocketConnectError::Tls { host, error } => {
            let is_not_tls = matches!(
                error.get_ref().and_then(|inner| inner.downcast_ref()),
                Some(Tls::InvalidMessage(InvalidMessage::InvalidContentType))
            );
            if !is_not_tls && !is_disconnect(&error) {
                return WebSocketConnectError::Tls { host, error };
            }
            match answers_http(address).await {
                is_http if is_not_tls || is_http => WebSocketConnectError::NotTls { host, is_http },
                _ => WebSocketConnectError::Tls { host, error },
            }
        }
        error => error,
    }
}

/// Whether the server answers the start of a TLS handshake with TLS.
async fn answers_tls(address: SocketAddr) -> bool {
    let hello = || {
        // The handshake ends before there is a certificate to verify.
        let config = TrustPolicy { accept_any: true, ..TrustPolicy::default() }.client_config().ok()?;
        let mut session = ClientConnection::new(config, ServerName::from(address.ip())).ok()?;
        let mut hello = Vec::new();
        session.write_tls(&mut hello).ok().map(|_| hello)
    };
    let Some(hello) = hello() else { return false };
    let answer = first_bytes(address, &hello).await;
    matches!(answer, Ok([first, 0x03, ..]) if TLS_FIRST_RECORDS.contains(&first))
}

/// Whether the server answers a plain HTTP request with HTTP. The request contains neither the path nor the query of the user's URL, which
/// may contain a token.
async fn answers_http(address: SocketAddr) -> bool {
    let Ok(url) = format!("ws://{address}").parse::<WebSocketUrl>() else { return false };
    let answer = first_bytes(address, ClientHandshake::new(&url).request()).await;
    matches!(answer, Ok(bytes) if bytes == *b"HTTP/")
}

async fn first_bytes(address: SocketAddr, request: &[u8]) -> io::Result<[u8; 5]> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request).await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    timeout(CHECK_TIMEOUT, exchange).await?
}
