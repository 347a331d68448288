//! A stream that is more than bytes: what it is for, and what has come of its next piece.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::super::deframe::{Deframer, GroupDeframer, GroupPiece};
use super::super::fields::Malformed;
use super::super::message::Subscribe;
use super::super::path::Path;
use super::action::{Event, Kind};

/// What a stream is for.
#[derive(Debug)]
pub(super) enum Role {
    /// Its type has not come, or may not be looked at before the set-up.
    Untyped,
    /// The session stream before the set-up is done.
    Setup,
    /// The session stream after that.
    Updates,
    /// The other end asks what there is, once it has said under which prefix.
    Asked { prefix: Option<Path> },
    /// The other end subscribes, once it has said to what.
    Serving(Option<Serving>),
    /// We ask what there is.
    Asking(Asking),
    /// We subscribe.
    Subscribing { subscription: u64, agreed: bool },
    /// A group comes in, for a subscription of ours if `known`.
    Group { group: GroupDeframer, known: bool },
}

impl Role {
    /// A group of which nothing is known yet.
    pub(super) fn group() -> Self {
        Self::Group { group: GroupDeframer::default(), known: false }
    }
}

/// A subscription of the other end.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) subscribe: Subscribe,
    pub(super) agreed: bool,
}

/// What has been announced on a stream of ours.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) prefix: Path,
    /// Whether the first answer has come, in the flavour that has one.
    pub(super) answered: bool,
    pub(super) announced: BTreeSet<Path>,
}

impl Asking {
    /// Nothing of it is announced any more.
    pub(super) fn into_ended(self) -> impl Iterator<Item = Event> {
        self.announced.into_iter().map(|path| Event::Unannounced { path })
    }
}

/// What a stream has next.
pub(super) enum Step {
    /// Nothing whole.
    More,
    /// Its type.
    Type(u8),
    /// A message's body.
    Message(Bytes),
    /// A piece of a group.
    Group(GroupPiece),
}

/// One stream.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) role: Role,
    pub(super) deframer: Deframer,
    /// Whether the other end has finished its side.
    pub(super) finished: bool,
    /// Bytes written that the transport has not taken.
    pub(super) unsent: usize,
}

impl Entry {
    pub(super) fn new(kind: Kind, role: Role) -> Self {
        Self { kind, role, deframer: Deframer::default(), finished: false, unsent: 0 }
    }

    /// Takes what comes next.
    pub(super) fn step(&mut self) -> Result<Step, Malformed> {
        Ok(match &mut self.role {
            Role::Untyped => self.deframer.byte().map_or(Step::More, Step::Type),
            Role::Group { group, .. } => group.next(&mut self.deframer)?.map_or(Step::More, Step::Group),
            _ => self.deframer.piece()?.map_or(Step::More, Step::Message),
        })
    }

    /// Whether the other end's side may end here.
    pub(super) fn finish(&self) -> Result<(), Malformed> {
        match &self.role {
            Role::Untyped => Err(Malformed::Short("a stream's type")),
            Role::Setup => Err(Malformed::Short("the set-up")),
            Role::Asked { prefix: None } => Err(Malformed::Short("ANNOUNCE_PLEASE")),
            Role::Serving(None) => Err(Malformed::Short("SUBSCRIBE")),
            Role::Group { group, .. } => group.finish(&self.deframer),
            _ => self.deframer.finish(),
        }
    }
}
