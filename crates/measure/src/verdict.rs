//! What each limit or expectation came to, and what follows for a run or a check. One function decides for all commands.

use std::collections::BTreeMap;

use serde::Serialize;

/// The result of a limit or an expectation for one subject: a run, a target, a member, or a pair of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judged {
    /// The measurement is within what was asked for.
    Met,
    /// The measurement exceeds it, or what was expected did not happen.
    Exceeded,
    /// Data are missing, or this host explains them. A reason stands beside it.
    NotJudged,
}

impl Judged {
    /// The result of a comparison.
    pub const fn of(is_met: bool) -> Self {
        if is_met { Self::Met } else { Self::Exceeded }
    }

    /// As reports print it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Exceeded => "exceeded",
            Self::NotJudged => "not judged",
        }
    }
}

/// The result of a run or a check, the worst last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was exceeded, and each subject was judged.
    #[default]
    Passed,
    /// A subject could not be judged at all.
    NotMeasured,
    /// Something was exceeded.
    Failed,
}

/// What all judgments come to, and the reasons of those that decided. Each judgment has its subject; a subject counts as judged if any of its
/// judgments is.
pub fn decide<S: Ord, R>(judgments: impl IntoIterator<Item = (S, Judged, R)>) -> (Outcome, Vec<R>) {
    let (mut exceeded, mut others) = (Vec::new(), BTreeMap::<S, (bool, Vec<R>)>::new());
    for (subject, judged, reason) in judgments {
        let (is_judged, reasons) = others.entry(subject).or_default();
        *is_judged |= judged != Judged::NotJudged;
        match judged {
            Judged::Met => {}
            Judged::Exceeded => exceeded.push(reason),
            Judged::NotJudged => reasons.push(reason),
        }
    }
    let not_judged: Vec<R> = others.into_values().filter(|one| !one.0).flat_map(|one| one.1).collect();
    match (&*exceeded, &*not_judged) {
        ([], []) => (Outcome::Passed, Vec::new()),
        ([], _) => (Outcome::NotMeasured, not_judged),
        _ => (Outcome::Failed, exceeded),
    }
}

impl Outcome {
    /// The exit code of a run that no signal ended.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::NotMeasured => 4,
        }
    }

    /// As reports print it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Failed => "FAILED",
            Self::NotMeasured => "NOT MEASURED",
        }
    }
}
