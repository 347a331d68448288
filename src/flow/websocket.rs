//! What is known of a run over WebSocket beside its questions and answers: how the connections came about, and how they ended.

use thiserror::Error;

use super::dialogue::{ClockOffset, Dialect};

/// The raw result of the connections of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketRun {
    /// What was spoken.
    pub dialect: Dialect,
    /// How each connection was made: one, or of a broadcast room the one that speaks and the one that hears.
    pub set_ups: Vec<SetUp>,
    /// Why there was no connection any more while something was still to come.
    pub lost: Option<Lost>,
    /// How far the server's clock is ahead, where it tells.
    pub clock_offset: Option<ClockOffset>,
    /// The first error that the server told, in its own words.
    pub complaint: Option<String>,
}

impl WebSocketRun {
    /// A run in `dialect` of which nothing is known yet.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, set_ups: Vec::new(), lost: None, clock_offset: None, complaint: None }
    }
}

/// How long the parts of making a connection took, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetUp {
    /// Finding the host's addresses.
    pub name_ns: u64,
    /// TCP, over all addresses that were tried.
    pub tcp_ns: u64,
    /// TLS, where it is spoken.
    pub tls_ns: Option<u64>,
    /// The HTTP request that upgrades to WebSocket, and its answer.
    pub upgrade_ns: u64,
    /// From then until questions could be asked, where there is something to wait for.
    pub join_ns: Option<u64>,
}

/// Why there is no connection. Words of the server are as it wrote them, and cut.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Lost {
    /// None was made.
    #[error("{0}")]
    Unreachable(String),
    /// The server let nobody in.
    #[error("the server lets nobody in: {0}")]
    Refused(String),
    /// The server closed it.
    #[error("the server closed the connection{}", words(*.code, .reason))]
    Closed {
        /// The close code, if it gave one.
        code: Option<u16>,
        /// What it says about it.
        reason: String,
    },
    /// It broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl Lost {
    /// Which of them, for scripts.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::Closed { .. } => "closed",
            Self::Broken(_) => "broken",
        }
    }
}

fn words(code: Option<u16>, reason: &str) -> String {
    match (code, reason) {
        (None, "") => " without a word".to_owned(),
        (None, reason) => format!(": {reason}"),
        (Some(code), "") => format!(" with {code}"),
        (Some(code), reason) => format!(" with {code} ({reason})"),
    }
}
