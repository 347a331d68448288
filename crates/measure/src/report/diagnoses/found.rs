//! A list of diagnoses, to which rows of a table are added.

use crate::diagnosis::{Diagnosis, Severity};

/// Adds each diagnosis whose condition holds: severity, code, condition, and the sentence with its arguments.
macro_rules! diagnose {
    ($found:ident: $($severity:ident $code:literal if ($($condition:tt)+) => $message:literal $(, $argument:expr)*;)+) => {$(
        if $($condition)+ {
            $found.add(crate::diagnosis::Severity::$severity, $code, format!($message $(, $argument)*));
        }
    )+};
}

pub(super) use diagnose;

/// The diagnoses found so far, the likely cause if no reply arrived, and the section of the documentation about the next ones.
#[derive(Default)]
pub(super) struct Found {
    pub(super) section: &'static str,
    pub(super) all: Vec<Diagnosis>,
    pub(super) likely_cause: Option<String>,
}

impl Found {
    pub(super) fn add(&mut self, severity: Severity, code: &'static str, message: String) {
        self.all.push(Diagnosis::new(severity, code, self.section, message));
    }
}
