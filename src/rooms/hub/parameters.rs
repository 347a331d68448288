//! The parameters of a room: their values by name, and the ranges that were declared for all rooms.

use std::collections::{BTreeMap, btree_map};

/// Parameters of one room, and declared ranges.
const MOST: usize = 4_096;

/// The range of a parameter for which none was declared.
const UNDECLARED: Range = Range { min: 0.0, max: 1.0 };

/// No more of them are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rooms) struct Full;

/// A parameter of a room.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::rooms) struct Parameter {
    /// The first that was set is 1.
    pub(in crate::rooms) index: usize,
    pub(in crate::rooms) value: f32,
}

/// The parameters of a room that have been set.
#[derive(Debug, Default)]
pub(in crate::rooms) struct Parameters {
    known: BTreeMap<String, Parameter>,
    /// All of them as they were last told, until one changes.
    told: Option<String>,
}

impl Parameters {
    /// Whether there is a place for the parameter of this name.
    pub(in crate::rooms) fn has_place(&self, name: &str) -> bool {
        self.known.len() < MOST || self.known.contains_key(name)
    }

    /// Sets a parameter. Its index.
    pub(in crate::rooms) fn set(&mut self, name: &str, value: f32) -> Result<usize, Full> {
        if !self.has_place(name) {
            return Err(Full);
        }
        self.told = None;
        if let Some(parameter) = self.known.get_mut(name) {
            parameter.value = value;
            return Ok(parameter.index);
        }
        let index = self.known.len() + 1;
        self.known.insert(name.to_owned(), Parameter { index, value });
        Ok(index)
    }

    /// All of them, sorted by name, as `write` has them: once for everybody who asks until something changes.
    pub(in crate::rooms) fn told(
        &mut self,
        write: impl FnOnce(btree_map::Iter<'_, String, Parameter>) -> String,
    ) -> &str {
        self.told.get_or_insert_with(|| write(self.known.iter()))
    }

    /// A range has changed.
    pub(in crate::rooms) fn tell_anew(&mut self) {
        self.told = None;
    }
}

/// What a parameter's values are meant to lie in. Nothing is done to those that do not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::rooms) struct Range {
    pub(in crate::rooms) min: f32,
    pub(in crate::rooms) max: f32,
}

/// The ranges that were declared.
#[derive(Debug, Default)]
pub(in crate::rooms) struct Ranges(BTreeMap<String, Range>);

impl Ranges {
    /// The range of a parameter.
    pub(in crate::rooms) fn of(&self, name: &str) -> Range {
        self.0.get(name).copied().unwrap_or(UNDECLARED)
    }

    /// Declares the range of a parameter.
    pub(in crate::rooms) fn declare(&mut self, name: &str, range: Range) -> Result<(), Full> {
        if self.0.len() >= MOST && !self.0.contains_key(name) {
            return Err(Full);
        }
        self.0.insert(name.to_owned(), range);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_parameters_are_kept_and_those_can_always_be_set() {
        let mut parameters = Parameters::default();
        for number in 0..4_096 {
            assert_eq!(parameters.set(&format!("p{number}"), 0.5), Ok(number + 1));
        }
        assert_eq!(parameters.set("one more", 0.5), Err(Full));
        assert_eq!(parameters.set("p7", 0.25), Ok(8));
        let mut values = Vec::new();
        parameters.told(|all| {
            values.extend(all.take(2).map(|(name, parameter)| (name.clone(), parameter.value)));
            String::new()
        });
        assert_eq!(values, [("p0".to_owned(), 0.5), ("p1".to_owned(), 0.5)]);
        let mut ranges = Ranges::default();
        let range = Range { min: -1.0, max: 2.0 };
        assert!((0..4_096).all(|number| ranges.declare(&format!("p{number}"), range).is_ok()));
        assert_eq!((ranges.declare("one more", range), ranges.declare("p7", range)), (Err(Full), Ok(())));
        assert_eq!((ranges.of("p7"), ranges.of("one more")), (range, UNDECLARED));
    }

    #[test]
    fn what_was_told_is_told_again_until_something_changes() {
        let mut parameters = Parameters::default();
        assert_eq!(parameters.told(|_| "first".to_owned()), "first");
        assert_eq!(parameters.told(|_| "second".to_owned()), "first");
        assert_eq!(parameters.set("a", 1.0), Ok(1));
        assert_eq!(parameters.told(|_| "third".to_owned()), "third");
        parameters.tell_anew();
        assert_eq!(parameters.told(|_| "fourth".to_owned()), "fourth");
    }
}
