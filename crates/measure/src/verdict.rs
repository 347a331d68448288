//! What each limit or expectation came to, and what follows for a run or a check. One function decides for all commands.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::document::Judgment;
use crate::document::column::json_types;

/// The result of a limit or an expectation for one subject: a run, a target, a member, or a pair of members. The worst is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judged {
    /// The measurement exceeds what was asked for, or what was expected did not happen.
    Exceeded,
    /// Data are missing, or this host explains them. A reason stands beside it.
    NotJudged,
    /// The measurement is within what was asked for.
    #[default]
    Met,
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

/// What all judgments come to, and those that decided. One that was not judged has no effect beside others of its group that were.
pub(crate) fn decide(judgments: &[Judgment]) -> (Verdict, Vec<&Judgment>) {
    let of = |result| judgments.iter().filter(move |one| one.result == result);
    let group = |one: &Judgment| if one.group.is_empty() { one.subject.clone() } else { one.group.clone() };
    let met: BTreeSet<String> = of(Judged::Met).map(group).collect();
    let exceeded: Vec<_> = of(Judged::Exceeded).collect();
    let not_judged: Vec<_> = of(Judged::NotJudged).filter(|one| !met.contains(&group(one))).collect();
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

json_types! {
    Judged => {"enum": [Judged::Exceeded, Judged::NotJudged, Judged::Met]};
    Verdict => {"enum": [Verdict::Passed, Verdict::Failed, Verdict::NotMeasured]};
}
