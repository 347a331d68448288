//! The outcome of each datagram that impairment may have affected, as written to the outcome log.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::time::Duration;

use crate::impairment::{Impairment, LossCause, PacketClass};
use crate::time::{Time, saturating_nanos};

/// The outcome of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At least one copy was sent.
    Sent,
    /// Lost by impairment.
    Lost(LossCause),
    /// The queue of the bandwidth limit was full.
    BottleneckFull,
    /// The datagram was dropped because it exceeded a buffer limit.
    Dropped,
    /// The datagram was dropped because it exceeded the limits of its destination.
    Limit,
    /// Sending failed.
    SendFailed,
    /// The datagram was still queued at the end.
    DroppedAtStop,
    /// The keys of the encrypted link were replaced or expired.
    OldLink,
    /// The datagram arrived at a port that another one replaces.
    OldPort,
}

impl Outcome {
    /// The name of the outcome, as written to the outcome log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Lost(LossCause::Outage) => "outage",
            Self::Lost(LossCause::Recorded) => "recorded",
            Self::Lost(LossCause::Listed) => "listed",
            Self::Lost(LossCause::Burst) => "burst",
            Self::Lost(LossCause::Random) => "lost",
            Self::BottleneckFull => "queue",
            Self::Dropped => "buffer_full",
            Self::Limit => "limit",
            Self::SendFailed => "failed",
            Self::DroppedAtStop => "stopped",
            Self::OldLink => "old_link",
            Self::OldPort => "old_port",
        }
    }
}

/// A datagram and its outcome. Its text is a row of the outcome log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutcomeEvent<R> {
    /// When the datagram arrived; for a reply, the packet that it answers.
    pub received_at: Time,
    /// Where it comes from and goes to; its text is one or more columns of the outcome log.
    pub route: R,
    /// The class; for a reply, of the packet that it answers.
    pub class: PacketClass,
    /// Sequence number in the header, or 0.
    pub sequence: u32,
    /// The outcome.
    pub outcome: Outcome,
    /// Whether the datagram was delayed so that later ones overtake it.
    pub reordered: bool,
    /// The delay that impairment added to the due time of the first copy.
    pub added_delay: Duration,
    /// Number of copies sent.
    pub copies_sent: u8,
}

impl<R> OutcomeEvent<R> {
    /// The outcome of a datagram that is decided when it arrives.
    pub fn of_arrival(received_at: Time, route: R, (class, sequence): (PacketClass, u32), outcome: Outcome) -> Self {
        let (reordered, added_delay, copies_sent) = <_>::default();
        Self { received_at, route, class, sequence, outcome, reordered, added_delay, copies_sent }
    }

    /// The same outcome of a datagram that is named in another way.
    pub fn with_route<S>(self, route: S) -> OutcomeEvent<S> {
        let Self { received_at, class, sequence, outcome, reordered, added_delay, copies_sent, .. } = self;
        OutcomeEvent { received_at, route, class, sequence, outcome, reordered, added_delay, copies_sent }
    }
}

impl<R: Display> Display for OutcomeEvent<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received_at, route, class, sequence, outcome, reordered, added_delay, copies_sent } = self;
        let micros = |time| {
            let nanos = saturating_nanos(time);
            format!("{}.{:03}", nanos / 1_000, nanos % 1_000)
        };
        // Datagrams that were not sent have no delay.
        let delay = if *outcome == Outcome::Sent { micros(*added_delay) } else { String::new() };
        let (time, kind) = (micros(*received_at - Time::ZERO), class.map_or("other", |class| class.name()));
        let (outcome, reordered) = (outcome.name(), u8::from(*reordered));
        write!(f, "{time},{route},{kind},{sequence},{outcome},{reordered},{delay},{copies_sent}")
    }
}

/// Receives the outcome of each datagram on the thread that runs the node. An observer must not block, and must not allocate memory after its
/// first calls.
pub type OutcomeObserver<R> = Box<dyn FnMut(&OutcomeEvent<R>) + Send>;

/// The impairment of replies or of sent AUDIO, and what receives the outcomes.
pub type ObservedImpairment = (Impairment, OutcomeObserver<SocketAddr>);
