//! The fate of every reply, for whoever wants more than the counts: a log of them.

use std::net::SocketAddr;
use std::time::Duration;

use crate::link::Loss;
use crate::time::Time;
use crate::wire::Kind;

/// What became of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// At least one copy was handed to the system, which took it.
    Sent,
    /// Lost on purpose.
    Lost(Loss),
    /// The queue before the limited bandwidth had no room for it.
    Queue,
    /// It was refused because of what waits already.
    Refused,
    /// The system refused to send it.
    Failed,
    /// It still waited when the server was stopped.
    Stopped,
}

impl Fate {
    /// The word for it in a log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Lost(Loss::Asked) => "asked",
            Self::Lost(Loss::Burst) => "burst",
            Self::Lost(Loss::Single) => "lost",
            Self::Queue => "queue",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// A reply whose fate is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fated {
    /// When the packet that it answers arrived.
    pub at: Time,
    /// Whom it is for.
    pub client: SocketAddr,
    /// The type of the packet that it answers.
    pub kind: Kind,
    /// The sequence number in that packet's header.
    pub sequence: u32,
    /// What became of it.
    pub fate: Fate,
    /// Whether it was held back so that later ones pass.
    pub reordered: bool,
    /// How much later than without impairment the first copy was due to leave.
    pub delay: Duration,
    /// Copies that left.
    pub copies: u8,
}

/// Takes fates on the thread that runs the node: it must neither block nor allocate when warm.
pub trait FateObserver: Send {
    /// One more fate.
    fn on_fate(&mut self, fated: &Fated);
}

/// Nobody wants to know.
impl FateObserver for () {
    fn on_fate(&mut self, _: &Fated) {}
}
