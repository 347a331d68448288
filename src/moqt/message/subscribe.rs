//! The subscribe stream: a subscriber asks for a track, a publisher agrees.

use super::super::fields::{Fields, Malformed, PATH_PARTS, Parameters, put_bytes, put_parameters, put_texts};
use super::super::path::Path;
use super::super::varint;
use super::{Body, Flavour};

/// Which groups are wanted, and how urgently. Of the head's flavour the priority is all there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeUpdate {
    /// How urgent, 0 to 255.
    pub priority: u64,
    /// In which order groups are wanted.
    pub order: u64,
    /// The first group wanted.
    pub min: u64,
    /// The last group wanted; 0 is no limit.
    pub max: u64,
    /// Seed only.
    pub parameters: Parameters,
}

impl SubscribeUpdate {
    /// Whether the group with this sequence is wanted.
    pub const fn wants(&self, sequence: u64) -> bool {
        sequence >= self.min && (self.max == 0 || sequence <= self.max)
    }
}

impl Body for SubscribeUpdate {
    fn put(&self, flavour: Flavour, to: &mut Vec<u8>) {
        varint::write(self.priority, to);
        if flavour == Flavour::Seed {
            for field in [self.order, self.min, self.max] {
                varint::write(field, to);
            }
            put_parameters(&self.parameters, to);
        }
    }

    fn take(flavour: Flavour, fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let priority = fields.number("a priority")?;
        Ok(match flavour {
            Flavour::Seed => Self {
                priority,
                order: fields.number("an order")?,
                min: fields.number("the first group")?,
                max: fields.number("the last group")?,
                parameters: fields.parameters()?,
            },
            Flavour::Head => Self { priority, ..Self::default() },
        })
    }
}

/// Asks for a track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// The subscriber's number for it; groups carry it.
    pub id: u64,
    /// The track. In the head's flavour the last part is the track's name, and those before it are the broadcast's path.
    pub track: Path,
    /// Which of its groups.
    pub range: SubscribeUpdate,
}

impl Body for Subscribe {
    fn put(&self, flavour: Flavour, to: &mut Vec<u8>) {
        varint::write(self.id, to);
        match flavour {
            Flavour::Seed => put_texts(&self.track.0, to),
            Flavour::Head => {
                let (name, broadcast) = match self.track.0.split_last() {
                    Some((name, broadcast)) => (name.as_str(), broadcast.join("/")),
                    None => ("", String::new()),
                };
                put_bytes(broadcast.as_bytes(), to);
                put_bytes(name.as_bytes(), to);
            }
        }
        self.range.put(flavour, to);
    }

    fn take(flavour: Flavour, fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let id = fields.number("an id")?;
        let track = match flavour {
            Flavour::Seed => fields.texts("a path", PATH_PARTS)?,
            Flavour::Head => vec![fields.text("a path")?, fields.text("a track's name")?],
        };
        Ok(Self { id, track: Path(track), range: SubscribeUpdate::take(flavour, fields)? })
    }
}

/// Agrees to a subscription: INFO in the seed's flavour, `SUBSCRIBE_OK` without a body in the head's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOk {
    /// How urgent, 0 to 255. Seed only.
    pub priority: u64,
    /// The newest group. Seed only.
    pub latest: u64,
    /// In which order groups come. Seed only.
    pub order: u64,
}

impl Body for SubscribeOk {
    fn put(&self, flavour: Flavour, to: &mut Vec<u8>) {
        if flavour == Flavour::Seed {
            for field in [self.priority, self.latest, self.order] {
                varint::write(field, to);
            }
        }
    }

    fn take(flavour: Flavour, fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(match flavour {
            Flavour::Seed => Self {
                priority: fields.number("a priority")?,
                latest: fields.number("the newest group")?,
                order: fields.number("an order")?,
            },
            Flavour::Head => Self::default(),
        })
    }
}

/// Tells of groups that will not come. Seed only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeGap {
    /// The first of them.
    pub min: u64,
    /// The last of them.
    pub max: u64,
    /// Why.
    pub code: u64,
}

impl Body for SubscribeGap {
    fn put(&self, _: Flavour, to: &mut Vec<u8>) {
        for field in [self.min, self.max, self.code] {
            varint::write(field, to);
        }
    }

    fn take(flavour: Flavour, fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        match flavour {
            Flavour::Seed => Ok(Self {
                min: fields.number("the first group")?,
                max: fields.number("the last group")?,
                code: fields.number("a code")?,
            }),
            Flavour::Head => Err(Malformed::Foreign("SUBSCRIBE_GAP")),
        }
    }
}
