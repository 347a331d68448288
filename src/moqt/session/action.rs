//! What a session is told of, wants done, and tells.

use bytes::Bytes;

use super::super::message::Flavour;
use super::super::path::Path;

/// A stream of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// One that we open, as this session numbers them.
    Ours(u64),
    /// One that the other end opened, as whoever owns the connection numbers them.
    Theirs(u64),
}

/// Which ways a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Both ways.
    Bidi,
    /// From who opened it to the other.
    Uni,
}

/// What a session wants done, in this order. Those for one stream must stay in order; those for different streams need not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a stream and know it by this handle. If the transport has no credit, this and all that is for it waits.
    Open(Stream, Kind),
    /// Write these bytes after those before. What the transport has taken of them is told by
    /// [`Session::on_taken`](super::Session::on_taken). There may be very many and very short ones: what waits should be kept as
    /// bytes, not as a list of these.
    Write(Stream, Bytes),
    /// End our side of the stream, once all bytes are written.
    Finish(Stream),
    /// Give our side of the stream up with this code; what has not been taken is forgotten.
    Reset(Stream, u32),
    /// Ask the other end to give its side up with this code; what comes meanwhile is ignored.
    Stop(Stream, u32),
    /// Close the connection. Nothing comes after this.
    Close {
        /// From [`super::super::code`].
        code: u32,
        /// For people.
        reason: String,
    },
}

/// What a session tells its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The set-up is done.
    Established {
        /// What is spoken.
        flavour: Flavour,
        /// The path that was asked for.
        path: String,
    },
    /// The other end wants to know what there is under `prefix`. Answer with [`Session::answer`](super::Session::answer).
    Asked {
        /// The conversation.
        asked: Stream,
        /// What paths shall begin with.
        prefix: Path,
    },
    /// It does not want to know any more.
    Unasked {
        /// The conversation.
        asked: Stream,
    },
    /// The other end announces a path.
    Announced {
        /// The whole path.
        path: Path,
    },
    /// It does not announce it any more.
    Unannounced {
        /// The whole path.
        path: Path,
    },
    /// The other end wants a track. Answer with [`Session::accept`](super::Session::accept) or
    /// [`Session::refuse`](super::Session::refuse), now or later.
    SubscribeAsked {
        /// The conversation.
        subscriber: Stream,
        /// Which track.
        track: Path,
    },
    /// It does not want it any more.
    Unsubscribed {
        /// The conversation.
        subscriber: Stream,
    },
    /// The other end agrees to our subscription. Groups may have come before.
    Subscribed {
        /// Our number of it.
        subscription: u64,
    },
    /// Our subscription has ended or was refused.
    SubscriptionEnded {
        /// Our number of it.
        subscription: u64,
        /// Why, if not in peace.
        code: Option<u32>,
    },
    /// A group begins to come.
    GroupBegan {
        /// Its stream.
        group: Stream,
        /// Our number of its subscription.
        subscription: u64,
        /// Which group.
        sequence: u64,
    },
    /// A frame of it has come, whole.
    Frame {
        /// Its group.
        group: Stream,
        /// What is in it.
        payload: Bytes,
    },
    /// All of its frames have come.
    GroupEnded {
        /// The group.
        group: Stream,
    },
    /// It broke off.
    GroupLost {
        /// The group.
        group: Stream,
        /// The other end's code, or ours if what came was malformed.
        code: u32,
    },
    /// A group of ours was dropped: too much of it or of later ones waited, or its reader gave it up.
    GroupDropped {
        /// The group.
        group: Stream,
    },
    /// The connection is closed. The last event.
    Closed {
        /// The code.
        code: u32,
        /// For people.
        reason: String,
        /// Whether we closed it.
        by_us: bool,
    },
}
