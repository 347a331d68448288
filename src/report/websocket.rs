//! The connections of a probe over WebSocket, as they are printed.

use serde::Serialize;

use super::numbers::{micros, unsigned_millis};
use crate::flow::Dialect;
use crate::flow::websocket::{Lost, SetUp, WebSocketRun};
use crate::rooms::harmless::harmless;

/// The connections.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct WebSocketNumbers {
    pub dialect: Dialect,
    pub question: &'static str,
    pub answer: &'static str,
    pub connections: Vec<SetUpNumbers>,
    pub connection_lost: Option<LostWords>,
    pub clock_offset_us: Option<f64>,
    pub clock_offset_error_us: Option<f64>,
    pub complaint: Option<String>,
}

/// How one connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct SetUpNumbers {
    pub name_ms: f64,
    pub tcp_ms: f64,
    pub tls_ms: Option<f64>,
    pub upgrade_ms: f64,
    pub join_ms: Option<f64>,
}

/// Why there was no connection, or none any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct LostWords {
    pub kind: &'static str,
    pub close_code: Option<u32>,
    pub text: String,
}

impl From<&WebSocketRun> for WebSocketNumbers {
    fn from(run: &WebSocketRun) -> Self {
        let WebSocketRun { dialect, set_ups, lost, clock_offset, complaint } = run;
        Self {
            dialect: *dialect,
            question: dialect.question(),
            answer: dialect.answer(),
            connections: set_ups.iter().map(SetUpNumbers::from).collect(),
            connection_lost: lost.as_ref().map(LostWords::from),
            clock_offset_us: clock_offset.map(|clock| micros(clock.offset_ns)),
            clock_offset_error_us: clock_offset.map(|clock| micros((clock.round_trip_ns + 1) / 2)),
            complaint: complaint.as_deref().map(harmless),
        }
    }
}

impl From<&SetUp> for SetUpNumbers {
    fn from(set_up: &SetUp) -> Self {
        let SetUp { name_ns, tcp_ns, tls_ns, upgrade_ns, join_ns } = *set_up;
        Self {
            name_ms: unsigned_millis(name_ns),
            tcp_ms: unsigned_millis(tcp_ns),
            tls_ms: tls_ns.map(unsigned_millis),
            upgrade_ms: unsigned_millis(upgrade_ns),
            join_ms: join_ns.map(unsigned_millis),
        }
    }
}

impl From<&Lost> for LostWords {
    fn from(lost: &Lost) -> Self {
        let close_code = if let Lost::Closed { code, .. } = lost { code.map(u32::from) } else { None };
        Self { kind: lost.kind(), close_code, text: harmless(&lost.to_string()) }
    }
}

/// The way out, by what the server said when it closed.
pub(super) fn advice(dialect: Dialect, code: u32) -> Option<&'static str> {
    let broadcast = dialect == Dialect::Broadcast;
    Some(match code {
        1000 | 1001 => "the server ends, or has closed the room: try again",
        1008 => {
            "it breaks a rule of the server: too many messages a second (give a longer --interval), or too many wrong codes"
        }
        1009 => "a message was too long for the server",
        1011 | 1012 | 1014 => "the server has a problem of its own, or starts again: look at its log",
        1013 => {
            "the server or the room is full, or we did not read fast enough: try later, or give a longer --interval"
        }
        4000 if broadcast => "the server closes connections that are idle: give a shorter --interval",
        4001 if broadcast => {
            "the room takes members with a token only, or for so long only: give --token-file FILE, or sign tokens by \
             --hmac-secret-file FILE"
        }
        4002 if broadcast => {
            "\"Server shutting down\" means what it says; otherwise the token has expired, is for another room, or is signed \
             with another secret: give a fresh --token-file and its --room, or the server's own secret by --hmac-secret-file"
        }
        4003 | 4004 if broadcast => "the room does not take this client: ask who runs it",
        4005 if broadcast => "the room's name is none that the server takes: give another --room",
        _ => return None,
    })
}
