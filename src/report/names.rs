//! What the packets of a stream, and their answers, are called: by their types over UDP, in a dialect's own words over WebSocket,
//! frames over MOQT.

use crate::flow::Dialect;
use crate::flow::run::{Run, StreamKind};

/// What a run spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Udp,
    WebSocket(Dialect),
    Moqt,
}

impl Spoken {
    pub(super) fn of(dialect: Option<Dialect>, moqt: bool) -> Self {
        match (dialect, moqt) {
            (Some(dialect), _) => Self::WebSocket(dialect),
            (None, true) => Self::Moqt,
            (None, false) => Self::Udp,
        }
    }

    pub(super) fn in_run(run: &Run) -> Self {
        Self::of(run.websocket.as_ref().map(|websocket| websocket.dialect), run.moqt.is_some())
    }
}

/// Names of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// The packet that is sent.
    pub(super) sent: &'static str,
    /// The packet that answers it.
    pub(super) answer: &'static str,
    /// What one of them is: a packet, a message, or a frame.
    pub(super) unit: &'static str,
    /// What comes: a datagram, a message, or a frame.
    pub(super) came: &'static str,
}

impl Names {
    /// Those of `kind`, in the words of what was spoken.
    pub(super) fn of(spoken: Spoken, kind: StreamKind) -> Self {
        match (spoken, kind) {
            (Spoken::WebSocket(dialect), StreamKind::Ping) => {
                Self { sent: dialect.question(), answer: dialect.answer(), unit: "message", came: "message" }
            }
            (Spoken::Moqt, StreamKind::Ping) => Self { sent: "MOQT", answer: "MOQT", unit: "frame", came: "frame" },
            _ => Self { sent: kind.name(), answer: kind.answer_name(), unit: "packet", came: "datagram" },
        }
    }

    /// `LATENCY_PING packet`, `ping message`.
    pub(super) fn packet(self) -> String {
        format!("{} {}", self.sent, self.unit)
    }

    /// `LATENCY_PONG datagram`, `pong message`.
    pub(super) fn datagram(self) -> String {
        format!("{} {}", self.answer, self.came)
    }
}
