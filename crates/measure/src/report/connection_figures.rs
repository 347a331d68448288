//! The figures of connections: WebSocket, MOQT and encrypted links.

use serde::Serialize;

use super::figures::figures;
use super::quantities::{RunProtocol, StreamLabels, micros, thousandths, unsigned_millis};
use crate::client::{
    Ending, LinkResults, MoqtFailure, MoqtResults, RoomResults, RunResults, StreamKind, WebSocketConnectTimes,
    WebSocketFailure, WebSocketResults,
};
use jamjam_core::sanitize::{sanitize, sanitize_lines};
use jamjam_core::time::NANOS_PER_SECOND;
use jamjam_moqt::MoqtVersion;
use jamjam_signaling::Dialect;

figures! {
    /// The connections of a probe over WebSocket.
    WebSocketFigures from (run, websocket): (&RunResults, &WebSocketResults) {
        dialect: Dialect = websocket.dialect;
        request: &'static str = StreamLabels::new(RunProtocol::of_run(run), StreamKind::Ping).request;
        response: &'static str = StreamLabels::new(RunProtocol::of_run(run), StreamKind::Ping).reply;
        connections: Vec<ConnectionSetupFigures> = websocket.connect_times.iter().copied().map(Into::into).collect();
        connection_failure: Option<ConnectionFailure> = websocket.failure.as_ref().map(ConnectionFailure::of_websocket);
        clock_offset_us: Option<f64> = websocket.clock_offset.map(|clock| micros(clock.offset_ns));
        clock_offset_error_us: Option<f64> = websocket.clock_offset.map(|clock| micros((clock.rtt_ns + 1) / 2));
        server_error: Option<String> = websocket.server_error.as_deref().map(sanitize);
        rooms: Option<RoomFigures> = websocket.rooms.as_ref().map(|rooms| (run, websocket.dialect, rooms).into());
    }

    /// Members of rooms that send messages.
    RoomFigures from (run, dialect, rooms): (&RunResults, Dialect, &RoomResults) [
        let [p50, p99, max] = rooms.join_ns.map(|ns| ns.map(micros));
        let delivered = run.evaluated().map_or(0, |stream| stream.returned) as f64;
        let per_second = delivered * NANOS_PER_SECOND as f64 / run.duration_ns as f64;
    ] {
        rooms: u64 = rooms.rooms;
        members: u64 = rooms.members;
        joined: u64 = rooms.joined;
        refused: u64 = rooms.refused;
        disconnected: u64 = rooms.disconnected;
        join_p50_us: Option<f64> = p50;
        join_p99_us: Option<f64> = p99;
        join_max_us: Option<f64> = max;
        messages_sent: u64 = rooms.sent;
        messages_not_sent: u64 = rooms.not_sent;
        deliveries_per_s: Option<f64> = (run.duration_ns > 0).then(|| thousandths(per_second));
        late: u64 = rooms.late;
        wrong_room: u64 = rooms.wrong_room;
        wrong_sender: u64 = rooms.wrong_sender;
        endings: Vec<EndingFigures> = rooms.endings.iter().map(|ending| (dialect, ending).into()).collect();
    }

    /// Why connections of members ended.
    EndingFigures from (dialect, ending): (Dialect, &Ending) {
        count: u64 = ending.count;
        failure: ConnectionFailure = ConnectionFailure::of_websocket(&ending.failure);
        limit: Option<&'static str> = server_limit(dialect, &ending.failure.to_string());
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
        Self { kind, close_code: None, close_reason: String::new(), message: sanitize_lines(&failure.to_string()) }
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

/// The limit of a server that ends a connection with this text, and how to lift it. Without one, the server or the path failed.
#[rustfmt::skip]
fn server_limit(dialect: Dialect, text: &str) -> Option<&'static str> {
    let full = match dialect {
        Dialect::Jamjam => "10 members in a room; give a higher --room-count",
        Dialect::Broadcast => "members of a room: max_clients of the room",
        Dialect::ControlSurface => "members of a room: BBX_MAX_CLIENTS",
        Dialect::WebRtc => "members of a room: WEBRTC_MAX_MEMBERS",
    };
    let text = text.to_lowercase();
    let limits = [
        ("room is full", full),
        ("room is at capacity", full),
        ("too many rooms", "1,000 rooms from one address; give a lower --room-count, or use several hosts"),
        ("too many requests", "1 MiB/s for the joins of one address; use smaller rooms, or several hosts"),
        ("rate limit exceeded", "messages of a connection: RATE_LIMIT_MESSAGES"),
        ("connection age", "age of a connection: MAX_CONN_AGE_MS"),
        ("idle", "silence of a member: IDLE_TIMEOUT_MS"),
        ("without responding", "connections of one address: MAX_CONNECTIONS_PER_ADDRESS, RATE_LIMIT_CONNECTIONS"),
        ("did not answer the websocket upgrade", "connections: MAX_CONNECTIONS"),
    ];
    limits.into_iter().find(|(part, _)| text.contains(part)).map(|(_, limit)| limit)
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
