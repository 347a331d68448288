//! How tracks are named: a tuple of parts in the seed's flavour, a broadcast's path and a track's name in the head's.

use std::fmt;

use super::message::Flavour;

/// The name of a track, or what such names begin with. In the head's flavour a broadcast is one part, and a track in it a second.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<String>);

impl Path {
    /// The path with these parts.
    pub fn of<S: Into<String>>(parts: impl IntoIterator<Item = S>) -> Self {
        Self(parts.into_iter().map(Into::into).collect())
    }

    /// What a person types: parts between commas, with or without spaces. Empty parts are left out.
    pub fn typed(text: &str) -> Self {
        Self::of(text.split(',').map(str::trim).filter(|part| !part.is_empty()))
    }

    /// This path, and `part` after it.
    #[must_use]
    pub fn with(&self, part: &str) -> Self {
        Self::of(self.0.iter().map(String::as_str).chain([part]))
    }

    /// Bytes of all parts together.
    pub fn len(&self) -> usize {
        self.0.iter().map(String::len).sum()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one string that the head's flavour has for it.
    pub fn joined(&self) -> String {
        self.0.join("/")
    }

    /// Whether it begins with `prefix`: part by part in the seed's flavour, character by character in the head's.
    pub fn is_under(&self, prefix: &Self, flavour: Flavour) -> bool {
        match flavour {
            Flavour::Seed => self.0.starts_with(&prefix.0),
            Flavour::Head => self.joined().starts_with(&prefix.joined()),
        }
    }

    /// What remains of it after `prefix`, as the head's flavour announces it.
    pub fn after(&self, prefix: &Self) -> String {
        let whole = self.joined();
        whole.strip_prefix(&prefix.joined()).map(str::to_owned).unwrap_or(whole)
    }

    /// What was announced as `told` to somebody who asked for what is under `prefix`: in the head's flavour the rest of the path, in
    /// the seed's that or the whole.
    pub(super) fn announced(told: Self, prefix: &Self, flavour: Flavour) -> Self {
        match flavour {
            Flavour::Seed if told.is_under(prefix, flavour) => told,
            Flavour::Seed => Self([&prefix.0[..], &told.0[..]].concat()),
            Flavour::Head => Self(vec![prefix.joined() + &told.joined()]),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}
