//! What each limit or expectation came to, and what follows for a run or a check. One function decides for all commands.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::document::column::json_names;

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
pub enum Verdict {
    /// Nothing was exceeded, and each subject was judged.
    #[default]
    Passed,
    /// A subject could not be judged at all.
    NotMeasured,
    /// Something was exceeded.
    Failed,
}

/// What all judgments come to, and the reasons of those that decided. Each judgment has its subject. One that was not judged has no effect
/// beside others of its subject that were.
pub fn decide<S: Ord, R>(judgments: impl IntoIterator<Item = (S, Judged, R)>) -> (Verdict, Vec<R>) {
    let (mut met, mut exceeded, mut not_judged) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (subject, judged, reason) in judgments {
        match judged {
            Judged::Met => _ = met.insert(subject),
            Judged::Exceeded => exceeded.push(reason),
            Judged::NotJudged => not_judged.push((subject, reason)),
        }
    }
    let not_judged = not_judged.into_iter().filter(|(subject, _)| !met.contains(subject));
    let not_judged: Vec<R> = not_judged.map(|(_, reason)| reason).collect();
    match (exceeded.is_empty(), not_judged.is_empty()) {
        (false, _) => (Verdict::Failed, exceeded),
        (true, false) => (Verdict::NotMeasured, not_judged),
        (true, true) => (Verdict::Passed, Vec::new()),
    }
}

impl Verdict {
    /// What a subject contributes that has this verdict by itself.
    pub const fn judged(self) -> Judged {
        match self {
            Self::Passed => Judged::Met,
            Self::NotMeasured => Judged::NotJudged,
            Self::Failed => Judged::Exceeded,
        }
    }

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

json_names! {
    Judged: Judged::Met, Judged::Exceeded, Judged::NotJudged;
    Verdict: Verdict::Passed, Verdict::Failed, Verdict::NotMeasured;
}
