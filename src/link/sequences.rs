//! A set of sequence numbers, as people write it: `10,20-25`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The set, as ranges that neither overlap nor touch, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequences(Vec<(u32, u32)>);

/// Why a text is no set of sequence numbers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SequencesError {
    /// A part that is neither a number nor two.
    #[error("`{0}` is neither a sequence number from 0 to 4294967295 nor a range; write 10,20-25")]
    NotANumber(String),
    /// A range whose end comes first.
    #[error("`{0}` ends before it begins; write {1}")]
    Backwards(String, String),
}

impl Sequences {
    /// Whether `sequence` is one of them.
    pub fn contains(&self, sequence: u32) -> bool {
        // The last range that begins at or before it is the only one that can hold it.
        let behind = self.0.partition_point(|(first, _)| *first <= sequence);
        behind > 0 && sequence <= self.0[behind - 1].1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Sequences {
    type Err = SequencesError;

    fn from_str(text: &str) -> Result<Self, SequencesError> {
        let mut ranges = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse().map_err(|_| SequencesError::NotANumber(part.to_owned()));
            let (first, last): (u32, u32) = (number(first)?, number(last)?);
            if first > last {
                return Err(SequencesError::Backwards(part.to_owned(), format!("{last}-{first}")));
            }
            ranges.push((first, last));
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Ok(Self(merged))
    }
}

impl fmt::Display for Sequences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (first, last)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}") } else { write!(f, "{comma}{first}-{last}") }?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_are_read_in_any_order_and_written_shortest() {
        for (text, written) in [
            ("10", "10"),
            ("10,20-25", "10,20-25"),
            ("20-25, 10", "10,20-25"),
            ("1,2,3,5", "1-3,5"),
            ("1-10,5-20,21", "1-21"),
            ("0-4294967295,7", "0-4294967295"),
            ("4294967295", "4294967295"),
        ] {
            assert_eq!(text.parse::<Sequences>().map(|set| set.to_string()), Ok(written.to_owned()), "{text}");
        }
    }

    #[test]
    fn exactly_what_was_written_is_contained() {
        let set: Sequences = "10,20-25,4294967295".parse().expect("a set");
        let contained: Vec<u32> = (0..100).chain([u32::MAX - 1, u32::MAX]).filter(|n| set.contains(*n)).collect();
        assert_eq!(contained, [10, 20, 21, 22, 23, 24, 25, u32::MAX]);
        assert!(!Sequences::default().contains(0));
    }

    #[test]
    fn what_is_no_set_is_said_in_words() {
        for text in ["", "a", "1,", "-5", "5-", "1-2-3", "4294967296", "1.5"] {
            let error = text.parse::<Sequences>().expect_err(text);
            assert!(matches!(error, SequencesError::NotANumber(_)), "{text}: {error}");
        }
        let error = "10,25-20".parse::<Sequences>().expect_err("backwards");
        assert_eq!(error.to_string(), "`25-20` ends before it begins; write 20-25");
    }
}
