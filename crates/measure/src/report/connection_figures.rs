//! The figures of connections: WebSocket, MOQT and encrypted links.

use super::quantities::{RunProtocol, StreamLabels, micros, thousandths, unsigned_millis};
use crate::client::{
    Ending, LinkResults, MoqtFailure, MoqtResults, RoomResults, RunResults, StreamKind, WebSocketConnectTimes,
    WebSocketFailure, WebSocketResults,
};
use crate::document::column::{figures, json_types};
use jamjam_core::sanitize::{sanitize, sanitize_lines};
use jamjam_core::time::NANOS_PER_SECOND;
use jamjam_moqt::MoqtVersion;
use jamjam_signaling::Dialect;

figures! {
    /// The connections of a probe over WebSocket.
    WebSocketFigures from (run, websocket): (&RunResults, &WebSocketResults) {
        /// Protocol dialect of the run.
        @short dialect: Dialect = websocket.dialect;
        /// Type of the messages sent.
        @short request: &'static str = StreamLabels::new(RunProtocol::of_run(run), StreamKind::Ping).request;
        /// Type of the messages expected in return.
        @short response: &'static str = StreamLabels::new(RunProtocol::of_run(run), StreamKind::Ping).reply;
        /// One object per connection, the sending connection first.
        connections: Vec<ConnectionSetupFigures> = websocket.connect_times.iter().copied().map(Into::into).collect();
        /// Why the connection failed or ended early; otherwise null.
        @json connection_failure: Option<ConnectionFailure> = websocket.failure.as_ref().map(ConnectionFailure::of_websocket);
        /// Clock of the server minus local clock (bbx only), from the response with the smallest round trip.
        @short clock_offset_us: Option<f64> = websocket.clock_offset.map(|clock| micros(clock.offset_ns));
        /// Maximum error of this offset: half that round trip.
        @short clock_offset_error_us: Option<f64> = websocket.clock_offset.map(|clock| micros((clock.rtt_ns + 1) / 2));
        /// First error message from the server, up to 256 characters; otherwise null.
        server_error: Option<String> = websocket.server_error.as_deref().map(sanitize);
        /// Members of rooms of load-rooms; otherwise null. The stream `ping` then counts deliveries: messages at their receivers.
        rooms: Option<RoomFigures> = websocket.rooms.as_ref().map(|rooms| (run, websocket.dialect, rooms).into());
    }

    /// Members of rooms that send messages.
    RoomFigures from (run, dialect, rooms): (&RunResults, Dialect, &RoomResults) [
        let [p50, p99, max] = rooms.join_ns.map(|ns| ns.map(micros));
        let delivered = run.evaluated().map_or(0, |stream| stream.returned) as f64;
        let per_second = delivered * NANOS_PER_SECOND as f64 / run.duration_ns as f64;
    ] {
        /// Number of rooms.
        @short rooms: u64 = rooms.rooms;
        /// Number of members in all rooms, connected or not.
        @short members: u64 = rooms.members;
        /// Members that have joined.
        @short joined: u64 = rooms.joined;
        /// Members that could not join.
        @short refused: u64 = rooms.refused;
        /// Members whose connection ended after the join.
        @short disconnected: u64 = rooms.disconnected;
        /// Median of the time from the beginning of a connection until its room was joined.
        @short join_p50_us: Option<f64> = p50;
        /// 99th percentile of this time.
        @short join_p99_us: Option<f64> = p99;
        /// Maximum of this time.
        @short join_max_us: Option<f64> = max;
        /// Messages that were sent.
        @short messages_sent: u64 = rooms.sent;
        /// Messages that were not sent in time, because the connection of the sender had ended or accepted none.
        @short messages_not_sent: u64 = rooms.not_sent;
        /// Deliveries in time, divided by the time from the first due time to the last delivery; null without deliveries.
        @short deliveries_per_s: Option<f64> = (run.duration_ns > 0).then(|| thousandths(per_second));
        /// Deliveries that arrived after they were counted as lost, and repetitions after the same time.
        late: u64 = rooms.late;
        /// Messages that members of another room received.
        wrong_room: u64 = rooms.wrong_room;
        /// Messages with a wrong sender or number, and messages that their own sender received.
        wrong_sender: u64 = rooms.wrong_sender;
        /// Why connections ended before the end of the run, up to 64 reasons. The last one includes further reasons.
        endings: Vec<EndingFigures> = rooms.endings.iter().map(|ending| (dialect, ending).into()).collect();
    }

    /// Why connections of members ended.
    EndingFigures from (dialect, ending): (Dialect, &Ending) {
        /// Number of connections.
        @short count: u64 = ending.count;
        /// The reason.
        failure: ConnectionFailure = ConnectionFailure::of_websocket(&ending.failure);
        /// The limit of the server that was reached, and what lifts it; null if the server or the path failed.
        @short limit: Option<&'static str> = server_limit(dialect, &ending.failure.to_string());
    }

    /// Duration of each setup step of one WebSocket connection.
    ConnectionSetupFigures from times: WebSocketConnectTimes {
        /// Name resolution.
        @short dns_ms: f64 = unsigned_millis(times.dns_ns);
        /// TCP handshake, including failed addresses.
        @short tcp_ms: f64 = unsigned_millis(times.tcp_ns);
        /// TLS handshake; null for ws://.
        @short tls_ms: Option<f64> = times.tls_ns.map(unsigned_millis);
        /// HTTP upgrade.
        @short upgrade_ms: f64 = unsigned_millis(times.upgrade_ns);
        /// Time until the welcome message; null if none is expected.
        @short join_ms: Option<f64> = times.join_ns.map(unsigned_millis);
    }

    /// The connection of a run over MOQT.
    MoqtFigures from moqt: &MoqtResults [
        let groups = &moqt.groups;
        let times = &moqt.connect_times;
    ] {
        /// Raw QUIC or WebTransport.
        @short transport: &'static str = moqt.transport.name();
        /// MOQT version; null if the run ended before the server selected one.
        @short version: Option<&'static str> = moqt.version.map(MoqtVersion::name);
        /// Path of the track.
        @short track: String = sanitize(&moqt.track);
        /// Frames in each group.
        @short frames_per_group: u64 = moqt.frames_per_group;
        /// URL path of the second connection attempt, after 2 s without a reply; otherwise null. No figure except `waited_ms` includes these
        /// 2 s.
        retried_path: Option<String> = moqt.retried_path.as_deref().map(sanitize);
        /// Groups with at least one frame sent and not excluded.
        @short groups_sent: u64 = groups.sent;
        /// Groups of which any frame came back.
        @short groups_returned: u64 = groups.returned;
        /// Groups of which no frame came back.
        @short groups_lost: u64 = groups.lost;
        /// Groups without an outcome, in an interrupted run.
        @problem groups_in_flight: u64 = groups.in_flight();
        /// Lost frames, without the frames of `groups_lost`.
        @problem frames_missing: u64 = groups.frames_missing;
        /// Groups stopped by the server (`STOP_SENDING`).
        @problem groups_stopped: u64 = groups.stopped;
        /// Groups dropped by the client because over 256 groups or 4 MiB waited to be sent.
        @problem groups_dropped: u64 = groups.dropped;
        /// Name resolution. Each connection setup time is null if its step was not reached.
        @short dns_ms: Option<f64> = times.dns_ns.map(unsigned_millis);
        /// QUIC handshake, including failed addresses.
        @short quic_ms: Option<f64> = times.quic_ns.map(unsigned_millis);
        /// HTTP/3 settings and CONNECT; null over raw QUIC.
        @short webtransport_ms: Option<f64> = times.webtransport_ns.map(unsigned_millis);
        /// MOQT setup, excluding `quic_ms` and `webtransport_ms`; near 0 in moq-lite, which has no setup.
        @short session_ms: Option<f64> = times.session_ns.map(unsigned_millis);
        /// Time from MOQT setup until both sides accepted each other's subscription; with gomoqt-2025-02, until the server subscribed and
        /// announced the echo.
        @short subscribe_ms: Option<f64> = times.subscribe_ns.map(unsigned_millis);
        /// Why the connection failed or ended early; otherwise null.
        @json connection_failure: Option<ConnectionFailure> = moqt.failure.as_ref().map(ConnectionFailure::of_moqt);
    }

    /// Why there was no connection, or why it ended early.
    #[derive(Eq)]
    ConnectionFailure {
        /// Kind of the failure.
        kind: &'static str;
        /// Close code or error code of the peer; null without one.
        close_code: Option<u32>;
        /// The reason that the peer gave.
        #[serde(skip)]
        @skip close_reason: String;
        /// The failure in words.
        message: String;
    }

    /// The encrypted link of a run over UDP.
    LinkFigures from link: &LinkResults {
        /// Whether the key of the server is verified (--link signed).
        @short signed: bool = link.is_signed;
        /// Whether a sealed packet of the server has opened. If false without a failure, the server made the link plain.
        @short encrypted: bool = link.is_encrypted;
        /// Time from the first CONTROL to the arrival of the first sealed packet that opened.
        @short setup_ms: Option<f64> = link.setup_ns.map(unsigned_millis);
        /// Sealed packets that were changed, are too short, have unknown flags, or are sealed with other keys.
        @problem dropped_not_opened: u64 = link.not_opened;
        /// Sealed packets whose counter was received before, or is 128 or more below the newest.
        @problem dropped_replayed: u64 = link.replayed;
        /// Sealed packets before keys were exchanged, or on a plain link.
        @problem dropped_no_keys: u64 = link.without_keys;
        /// Plain packets on an encrypted link, and on a signed link plain packets other than KEEPALIVE.
        @problem dropped_plain: u64 = link.plain;
        /// CONTROL with a wrong form, key or signature, with another key on a settled link, or on a plain link.
        @problem dropped_key_exchange: u64 = link.refused_keys;
        /// Why no link was settled; otherwise null.
        @json connection_failure: Option<ConnectionFailure> = link.failure.map(|(failure, _)| ConnectionFailure::new(failure.kind(), &failure));
    }
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

json_types! {
    Dialect => {"enum": Dialect::ALL};
}

/// The limit of a server that ends a connection with this text, and how to lift it. Without one, the server or the path failed.
#[rustfmt::skip]
fn server_limit(dialect: Dialect, text: &str) -> Option<&'static str> {
    let full = dialect.facts().room_limit;
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
