//! Facts as they happen, for whoever wants more than the statistics: a recording, a line a packet.

use serde::Serialize;

use super::run::StreamKind;
use crate::time::Time;

/// What became of one packet, or of one datagram that came for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The first whole copy came.
    Returned,
    /// The first whole copy came, after more than `--late-after`.
    Late,
    /// A further datagram came for a packet that had returned.
    Duplicate,
    /// A copy came whose bytes differ, before any whole one.
    Damaged,
    /// Nothing came in time.
    Lost,
    /// Nothing came, and nothing had to yet: the run was interrupted, or expects no answers.
    InFlight,
}

/// One fact.
#[derive(Clone, Copy, Debug)]
pub struct Fact<'a> {
    /// Which stream.
    pub stream: StreamKind,
    /// The packet's place in its stream, from 0.
    pub index: u64,
    /// The sequence number it was sent with.
    pub sequence: u32,
    /// When it left.
    pub sent: Time,
    /// When the datagram came, if one did.
    pub came: Option<Time>,
    /// What became of it.
    pub fate: Fate,
    /// Whether the datagram is the first that came for the packet.
    pub is_first: bool,
    /// The datagram's payload; empty where none came.
    pub payload: &'a [u8],
}

/// An AUDIO packet that has left, or that the system refused to send: it is part of the sound either way.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The packet's place among the AUDIO packets, from 0.
    pub index: u64,
    /// The sequence number it was sent with.
    pub sequence: u32,
    /// The samples, as they are on the wire.
    pub payload: &'a [u8],
}

/// Takes facts on the thread that runs the node: it must neither block nor allocate when warm.
pub trait Observer: Send {
    /// One more AUDIO packet was sent.
    fn on_sent(&mut self, _: Sent<'_>) {}
    /// One more fact.
    fn on_fact(&mut self, fact: Fact<'_>);
}

/// Nobody wants to know.
impl Observer for () {
    fn on_fact(&mut self, _: Fact<'_>) {}
}

/// Perhaps somebody does.
impl<O: Observer> Observer for Option<O> {
    fn on_sent(&mut self, sent: Sent<'_>) {
        if let Some(observer) = self {
            observer.on_sent(sent);
        }
    }

    fn on_fact(&mut self, fact: Fact<'_>) {
        if let Some(observer) = self {
            observer.on_fact(fact);
        }
    }
}

/// Two do, one after the other.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn on_sent(&mut self, sent: Sent<'_>) {
        self.0.on_sent(sent);
        self.1.on_sent(sent);
    }

    fn on_fact(&mut self, fact: Fact<'_>) {
        self.0.on_fact(fact);
        self.1.on_fact(fact);
    }
}

/// Somebody does who belongs to another.
impl<O: Observer + ?Sized> Observer for &mut O {
    fn on_sent(&mut self, sent: Sent<'_>) {
        (**self).on_sent(sent);
    }

    fn on_fact(&mut self, fact: Fact<'_>) {
        (**self).on_fact(fact);
    }
}
