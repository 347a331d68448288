//! The announce stream: a subscriber says what it would like to hear of, a publisher what there is.

use super::super::fields::{Fields, Malformed, PATH_PARTS, Parameters, SUFFIXES, put_bytes, put_parameters, put_texts};
use super::super::path::Path;
use super::super::varint;
use super::{Body, Flavour};

/// Asks for announcements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnouncePlease {
    /// What their paths begin with.
    pub prefix: Path,
    /// Seed only.
    pub parameters: Parameters,
}

impl Body for AnnouncePlease {
    fn put(&self, flavour: Flavour, to: &mut Vec<u8>) {
        match flavour {
            Flavour::Seed => {
                put_texts(&self.prefix.0, to);
                put_parameters(&self.parameters, to);
            }
            Flavour::Head => put_bytes(self.prefix.joined().as_bytes(), to),
        }
    }

    fn take(flavour: Flavour, fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(match flavour {
            Flavour::Seed => {
                Self { prefix: Path(fields.texts("a prefix", PATH_PARTS)?), parameters: fields.parameters()? }
            }
            Flavour::Head => Self { prefix: Path(vec![fields.text("a prefix")?]), parameters: Parameters::new() },
        })
    }
}

/// The first answer in the head's flavour: all that there is at the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceInit {
    /// What follows the prefix in each path.
    pub suffixes: Vec<String>,
}

impl Body for AnnounceInit {
    fn put(&self, _: Flavour, to: &mut Vec<u8>) {
        put_texts(&self.suffixes, to);
    }

    fn take(flavour: Flavour, fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        match flavour {
            Flavour::Seed => Err(Malformed::Foreign("ANNOUNCE_INIT")),
            Flavour::Head => Ok(Self { suffixes: fields.texts("suffixes", SUFFIXES)? }),
        }
    }
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Not any more.
    Ended = 0,
    /// It is.
    #[default]
    Active = 1,
    /// All that there is has been told; seed only, and without a path.
    Live = 2,
}

/// Tells of one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announce {
    /// Whether it is there.
    pub status: Status,
    /// The whole path in the seed's flavour, what follows the prefix in the head's, as one part.
    pub path: Path,
    /// Seed only.
    pub parameters: Parameters,
}

impl Body for Announce {
    fn put(&self, flavour: Flavour, to: &mut Vec<u8>) {
        varint::write(self.status as u64, to);
        match flavour {
            Flavour::Seed => {
                put_texts(&self.path.0, to);
                put_parameters(&self.parameters, to);
            }
            Flavour::Head => put_bytes(self.path.joined().as_bytes(), to),
        }
    }

    fn take(flavour: Flavour, fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let status = match (fields.number("a status")?, flavour) {
            (0, _) => Status::Ended,
            (1, _) => Status::Active,
            (2, Flavour::Seed) => Status::Live,
            (other, _) => return Err(Malformed::Status(other)),
        };
        Ok(match flavour {
            // The original program's length of a LIVE leaves out the count of its empty path.
            Flavour::Seed if status == Status::Live && fields.is_empty() => Self { status, ..Self::default() },
            Flavour::Seed => {
                Self { status, path: Path(fields.texts("a path", PATH_PARTS)?), parameters: fields.parameters()? }
            }
            Flavour::Head => Self { status, path: Path(vec![fields.text("a suffix")?]), parameters: Parameters::new() },
        })
    }
}
