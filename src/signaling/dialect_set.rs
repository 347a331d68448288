//! A set of dialects, for example those that a server supports.

use super::Dialect;

/// The dialects that a server supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialectSet(u8);

impl DialectSet {
    /// All dialects.
    pub const ALL: Self = Self((1 << Dialect::ALL.len()) - 1);

    /// Only the jamjam dialect.
    pub const JAMJAM_ONLY: Self = Self::only(Dialect::Jamjam);

    /// Only this dialect.
    pub const fn only(dialect: Dialect) -> Self {
        Self(1 << dialect as u8)
    }

    /// Whether the set contains `dialect`.
    pub const fn contains(self, dialect: Dialect) -> bool {
        self.0 & Self::only(dialect).0 != 0
    }

    /// The only dialect of the set; `None` if the set does not contain exactly one.
    pub(super) fn single(self) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|dialect| self == Self::only(*dialect))
    }

    /// The set without `dialect`.
    #[must_use]
    pub const fn without(self, dialect: Dialect) -> Self {
        Self(self.0 & !Self::only(dialect).0)
    }
}

impl Default for DialectSet {
    /// All dialects.
    fn default() -> Self {
        Self::ALL
    }
}

impl FromIterator<Dialect> for DialectSet {
    fn from_iter<I: IntoIterator<Item = Dialect>>(dialects: I) -> Self {
        Self(dialects.into_iter().fold(0, |set, dialect| set | Self::only(dialect).0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_contains_what_was_collected() {
        let set: DialectSet = [Dialect::Jamjam, Dialect::WebRtc].into_iter().collect();
        let contained: Vec<Dialect> = Dialect::ALL.into_iter().filter(|dialect| set.contains(*dialect)).collect();
        assert_eq!(contained, [Dialect::Jamjam, Dialect::WebRtc]);
        assert_eq!(set.without(Dialect::WebRtc), DialectSet::JAMJAM_ONLY);
        assert_eq!((set.single(), set.without(Dialect::WebRtc).single()), (None, Some(Dialect::Jamjam)));
        assert_eq!(Dialect::ALL.into_iter().collect::<DialectSet>(), DialectSet::ALL);
    }
}
