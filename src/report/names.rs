//! What the packets of a stream, and their answers, are called: by their types over UDP, in a dialect's own words over WebSocket.

use crate::flow::Dialect;
use crate::flow::run::StreamKind;

/// Names of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// The packet that is sent.
    pub(super) sent: &'static str,
    /// The packet that answers it.
    pub(super) answer: &'static str,
    /// What one of them is: a packet, or a message.
    pub(super) unit: &'static str,
    /// What comes: a datagram, or a message.
    pub(super) came: &'static str,
}

impl Names {
    /// Those of `kind`, in the words of the dialect that was spoken, if one was.
    pub(super) fn of(dialect: Option<Dialect>, kind: StreamKind) -> Self {
        match (dialect, kind) {
            (Some(dialect), StreamKind::Ping) => {
                Self { sent: dialect.question(), answer: dialect.answer(), unit: "message", came: "message" }
            }
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
