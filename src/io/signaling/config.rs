//! Configuration of a signaling server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::check::SignalingCheck;
use crate::io::connection_permit::ConnectionLimits;
use crate::io::http::login::Login;
use crate::io::moqt::MoqtUrl;
use crate::io::tls::server::HandshakeAcceptor;
use crate::io::websocket::handshake::WebSocketUrl;
use crate::rate_limit::RequestRate;
use crate::signaling::token::Secret;

/// Configuration of the server, in addition to the hub's limits.
#[derive(Debug, Default)]
pub struct SignalingServerConfig {
    /// Connection limits.
    pub connection_limits: ConnectionLimits,
    /// TLS handshakes; `None`: plain TCP.
    pub tls: Option<Arc<HandshakeAcceptor>>,
    /// HTTP endpoints of broadcast rooms.
    pub broadcast: BroadcastHttpConfig,
    /// Login for the operator's pages. By default every login is rejected.
    pub login: Arc<Login>,
    /// URL of a MOQT echo in the same process, with its listen host, for the start page.
    pub moqt_url: Option<MoqtUrl>,
    /// URL at which newer jamjam clients connect; `None`: on the host that they requested.
    pub public_url: Option<WebSocketUrl>,
    /// Whether newer jamjam clients without device headers are rejected.
    pub is_device_required: bool,
    /// Receives what clients do, for `--check`; wrong messages only if the hub is strict.
    pub check: Option<Arc<Mutex<SignalingCheck>>>,
}

/// Configuration of the HTTP endpoints of broadcast rooms.
#[derive(Clone, Debug)]
pub struct BroadcastHttpConfig {
    /// Key that a token request must contain. If there is no key, tokens are issued to every client.
    pub issuer_key: Option<Secret>,
    /// Limit on token requests per source address.
    pub token_limit: Option<RequestRate>,
    /// Limit on posts per source address.
    pub post_limit: Option<RequestRate>,
}

impl Default for BroadcastHttpConfig {
    /// Each source address may send ten token requests per 15 minutes and 30 posts per minute.
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            issuer_key: None,
            token_limit: Some(RequestRate { count: 10, period: minutes(15) }),
            post_limit: Some(RequestRate { count: 30, period: minutes(1) }),
        }
    }
}
