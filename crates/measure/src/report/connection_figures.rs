//! The figures of connections: WebSocket, MOQT and encrypted links.

use serde::Serialize;

use super::figures::figures;
use super::quantities::{micros, unsigned_millis};
use crate::client::{LinkResults, MoqtFailure, MoqtResults, WebSocketConnectTimes, WebSocketFailure, WebSocketResults};
use jamjam_core::sanitize::sanitize;
use jamjam_moqt::MoqtVersion;
use jamjam_signaling::Dialect;

figures! {
    /// The connections of a probe over WebSocket.
    WebSocketFigures from websocket: &WebSocketResults {
        dialect: Dialect = websocket.dialect;
        request: &'static str = websocket.dialect.probe().request_type;
        response: &'static str = websocket.dialect.probe().response_type;
        connections: Vec<ConnectionSetupFigures> = websocket.connect_times.iter().copied().map(Into::into).collect();
        connection_failure: Option<ConnectionFailure> = websocket.failure.as_ref().map(ConnectionFailure::of_websocket);
        clock_offset_us: Option<f64> = websocket.clock_offset.map(|clock| micros(clock.offset_ns));
        clock_offset_error_us: Option<f64> = websocket.clock_offset.map(|clock| micros((clock.rtt_ns + 1) / 2));
        server_error: Option<String> = websocket.server_error.as_deref().map(sanitize);
    }

    /// Duration of each setup step of one WebSocket connection.
    ConnectionSetupFigures from times: WebSocketConnectTimes {
        dns_ms: f64 = unsigned_millis(times.dns_ns);
        tcp_ms: f64 = unsigned_millis(times.tcp_ns);
        tls_ms: Option<f64> = times.tls_ns.map(unsigned_millis);
        upgrade_ms: f64 = unsigned_millis(times.upgrade_ns);
        join_ms: Option<f64> = times.join_ns.map(unsigned_millis);
    }

    /// The connection of a run over MOQT.
    MoqtFigures from moqt: &MoqtResults [
        let groups = &moqt.groups;
        let times = &moqt.connect_times;
    ] {
        transport: &'static str = moqt.transport.name();
        version: Option<&'static str> = moqt.version.map(MoqtVersion::name);
        track: String = sanitize(&moqt.track);
        frames_per_group: u64 = moqt.frames_per_group;
        retried_path: Option<String> = moqt.retried_path.as_deref().map(sanitize);
        groups_sent: u64 = groups.sent;
        groups_returned: u64 = groups.returned;
        groups_lost: u64 = groups.lost;
        groups_in_flight: u64 = groups.in_flight();
        frames_missing: u64 = groups.frames_missing;
        groups_stopped: u64 = groups.stopped;
        groups_dropped: u64 = groups.dropped;
        dns_ms: Option<f64> = times.dns_ns.map(unsigned_millis);
        quic_ms: Option<f64> = times.quic_ns.map(unsigned_millis);
        webtransport_ms: Option<f64> = times.webtransport_ns.map(unsigned_millis);
        session_ms: Option<f64> = times.session_ns.map(unsigned_millis);
        subscribe_ms: Option<f64> = times.subscribe_ns.map(unsigned_millis);
        connection_failure: Option<ConnectionFailure> = moqt.failure.as_ref().map(ConnectionFailure::of_moqt);
    }

    /// The encrypted link of a run over UDP.
    LinkFigures from link: &LinkResults {
        signed: bool = link.is_signed;
        encrypted: bool = link.is_encrypted;
        setup_ms: Option<f64> = link.setup_ns.map(unsigned_millis);
        dropped_not_opened: u64 = link.not_opened;
        dropped_replayed: u64 = link.replayed;
        dropped_no_keys: u64 = link.without_keys;
        dropped_plain: u64 = link.plain;
        dropped_key_exchange: u64 = link.refused_keys;
        connection_failure: Option<ConnectionFailure> = link.failure.map(|(failure, _)| ConnectionFailure::new(failure.kind(), &failure));
    }
}

/// Why there was no connection, or why it ended early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/report.schema.json describes each field, checked by a test")]
pub struct ConnectionFailure {
    pub kind: &'static str,
    pub close_code: Option<u32>,
    #[serde(skip)]
    pub close_reason: String,
    pub message: String,
}

impl ConnectionFailure {
    fn new(kind: &'static str, failure: &impl ToString) -> Self {
        Self { kind, close_code: None, close_reason: String::new(), message: sanitize(&failure.to_string()) }
    }

    fn of_websocket(failure: &WebSocketFailure) -> Self {
        let (close_code, close_reason) = match failure {
            WebSocketFailure::Closed { code, reason } => (code.map(u32::from), reason.clone()),
            _ => (None, String::new()),
        };
        Self { close_code, close_reason, ..Self::new(failure.kind(), failure) }
    }

    fn of_moqt(failure: &MoqtFailure) -> Self {
        let close_code = if let MoqtFailure::Closed { code, .. } = failure { Some(*code) } else { None };
        Self { close_code, ..Self::new(failure.kind(), failure) }
    }
}

impl LinkFigures {
    /// All dropped packets, with the reason of each count.
    pub(super) fn dropped(&self) -> [(u64, &'static str); 5] {
        [
            (self.dropped_not_opened, "not opened"),
            (self.dropped_replayed, "replayed"),
            (self.dropped_no_keys, "sealed without keys"),
            (self.dropped_plain, "plain"),
            (self.dropped_key_exchange, "with a refused key"),
        ]
    }
}
