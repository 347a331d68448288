//! What is known of a run over MOQT beside its frames: what was spoken, how the connection came about, what became of groups, and
//! how it ended.

mod frames;

use thiserror::Error;

pub use frames::{Frames, Terms};

use crate::moqt::client::Ending;
use crate::moqt::{Counts, Flavour, Transport};

/// The raw result of the connection of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoqtRun {
    /// What is below.
    pub transport: Transport,
    /// The wire format, once it was agreed on.
    pub flavour: Option<Flavour>,
    /// What is sent and heard, for people.
    pub track: String,
    /// Frames in a group.
    pub frames_per_group: u64,
    /// The path that was asked for in the end, where the server kept silent about the one that was to be.
    pub asked_again: Option<String>,
    /// How the connection was made, as far as it was.
    pub set_up: SetUp,
    /// What became of groups.
    pub groups: Groups,
    /// Why there was no connection any more, or nothing could be sent over it, while something was still to come.
    pub lost: Option<Lost>,
}

impl MoqtRun {
    /// A run over `transport` of which nothing is known yet.
    pub fn new(transport: Transport, track: impl Into<String>, frames_per_group: u64) -> Self {
        Self {
            transport,
            flavour: None,
            track: track.into(),
            frames_per_group,
            asked_again: None,
            set_up: SetUp::default(),
            groups: Groups::default(),
            lost: None,
        }
    }
}

/// How long the parts of making a connection took, in nanoseconds; `None` where it did not come to that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetUp {
    /// Finding the host's addresses.
    pub name_ns: Option<u64>,
    /// QUIC's handshake, TLS in it, over all addresses that were tried.
    pub quic_ns: Option<u64>,
    /// From then until the WebTransport session was there: HTTP/3's settings and the request. `None` over raw QUIC.
    pub connect_ns: Option<u64>,
    /// From then until MOQT's versions were agreed on.
    pub session_ns: Option<u64>,
    /// From then until each end had agreed to the other's subscription.
    pub subscribe_ns: Option<u64>,
}

/// What became of groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Groups of which a frame was sent.
    pub sent: u64,
    /// Groups of which a frame came back, whole or not.
    pub returned: u64,
    /// Groups of which nothing came back.
    pub lost: u64,
    /// Frames that did not come back of groups of which others did.
    pub frames_missing: u64,
    /// Groups that the server gave up while they were sent.
    pub declined: u64,
    /// Groups that we gave up because the transport did not take them in time.
    pub unsent: u64,
}

impl Groups {
    /// Groups of which nothing has come back and that are not lost: the run was cut short.
    pub fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.returned + self.lost)
    }

    /// Takes over what the session has counted.
    pub fn count(&mut self, counts: &Counts) {
        (self.declined, self.unsent) = (counts.groups_declined, counts.groups_dropped);
    }
}

/// Why frames could not be sent, or not any more. Words of the server are as it wrote them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Lost {
    /// No connection was made.
    #[error("{0}")]
    Unreachable(String),
    /// The server, or what we make of it, does not let us in.
    #[error("{0}")]
    Refused(String),
    /// The server did not do its part in time.
    #[error("{0}")]
    Unready(&'static str),
    /// We did not do ours: the run is given up.
    #[error(
        "the run waited for {0} longer than its options allow and was given up; that is a fault of this program or machine"
    )]
    Overdue(&'static str),
    /// The server closed the connection.
    #[error("the server closed the connection with {code:#x}{reason}", reason = bracketed(.reason))]
    Closed {
        /// The code.
        code: u32,
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
            Self::Unready(_) => "unready",
            Self::Overdue(_) => "overdue",
            Self::Closed { .. } => "closed",
            Self::Broken(_) => "broken",
        }
    }

    /// What `ending` means for the report, of a run that was set up or not.
    pub fn of(ending: &Ending, established: bool) -> Option<Self> {
        Some(match ending {
            Ending::Done => return None,
            Ending::Unready(why) => Self::Unready(why),
            Ending::Overdue(awaited) => Self::Overdue(awaited),
            Ending::Closed { code, reason, by_us: false } => Self::Closed { code: *code, reason: reason.clone() },
            Ending::Closed { reason, by_us: true, .. } if established => Self::Broken(reason.clone()),
            Ending::Closed { reason, by_us: true, .. } => Self::Refused(reason.clone()),
        })
    }
}

fn bracketed(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}
