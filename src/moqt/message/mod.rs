//! The messages of both flavours, as bodies without the length before them.
//!
//! Reading is total: any bytes are a message or name what is wrong with them. Bytes after the last field are left alone, as the
//! original program does.

mod announce;
mod group;
mod setup;
mod subscribe;

pub use announce::{Announce, AnnounceInit, AnnouncePlease, Status};
pub use group::Group;
pub use setup::{PATH_PARAMETER, SessionClient, SessionServer, SessionUpdate};
pub use subscribe::{Subscribe, SubscribeGap, SubscribeOk, SubscribeUpdate};

use super::fields::{Fields, Malformed};
use super::varint;

/// Which of the two wire formats a session speaks. The client offers versions, the server chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flavour {
    /// Version `0xffffff00`: paths are tuples.
    Seed,
    /// Version `0xfeedbabe`: a broadcast's path and a track's name.
    Head,
}

impl Flavour {
    /// Both, the preferred one first.
    pub const ALL: [Self; 2] = [Self::Seed, Self::Head];

    /// The version's code.
    pub const fn version(self) -> u64 {
        match self {
            Self::Seed => 0xffff_ff00,
            Self::Head => 0xfeed_babe,
        }
    }

    /// The flavour with this version's code.
    pub fn of(version: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|flavour| flavour.version() == version)
    }

    /// The word for it in options and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::Head => "head",
        }
    }
}

/// A message's body.
pub trait Body: Sized {
    /// Appends the fields.
    fn put(&self, flavour: Flavour, to: &mut Vec<u8>);

    /// Reads the fields.
    fn take(flavour: Flavour, fields: &mut Fields<'_>) -> Result<Self, Malformed>;

    /// The message as it is sent: the body's length and the body.
    fn framed(&self, flavour: Flavour) -> Vec<u8> {
        let mut body = Vec::new();
        self.put(flavour, &mut body);
        let mut bytes = Vec::with_capacity(body.len() + varint::LONGEST);
        varint::write(body.len() as u64, &mut bytes);
        bytes.append(&mut body);
        bytes
    }

    /// Reads a whole body.
    fn parse(flavour: Flavour, body: &[u8]) -> Result<Self, Malformed> {
        Self::take(flavour, &mut Fields::new(body))
    }
}

/// The byte that a stream between two ends in both directions begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StreamType {
    /// The first of a connection: the set-up.
    Session = 0,
    /// A subscriber asks what there is.
    Announce = 1,
    /// A subscriber asks for a track.
    Subscribe = 2,
    /// A subscriber asks for an old group. Not served here.
    Fetch = 3,
    /// Somebody asks about a track. Not answered here.
    Info = 4,
}

impl StreamType {
    /// The type with this byte.
    pub const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Session,
            1 => Self::Announce,
            2 => Self::Subscribe,
            3 => Self::Fetch,
            4 => Self::Info,
            _ => return None,
        })
    }
}

/// The byte that a group's stream, which goes one way, begins with.
pub const GROUP_TYPE: u8 = 0;

/// What the IETF's drafts and their relatives begin a connection with.
pub const FOREIGN_TYPE: u8 = 0x20;
