//! What a user should know about a run or its path.
//!
//! `report` finds diagnoses; here each output format writes them, except JSON, which has the fields as they are.

use std::fmt;

use serde::Serialize;

use crate::document::column::{figures, json_types};
use crate::document::{grouped, shortened};
use jamjam_core::sanitize::escape_html_prose;

/// How serious a diagnosis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing, but no fault, or a fault of the network. In a run: figures are less precise or less complete than usual.
    Note,
    /// Probably a fault, or one that a listener may not hear.
    Warning,
    /// Contradicts the protocol, or fails the run.
    Error,
}

/// The name in reports and of the option, as in JSON.
impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

figures! {
    /// One thing to know, with what to do about it.
    #[derive(Eq)]
    Diagnosis {
        /// Identifies the subject for programs.
        code: &'static str;
        /// How serious it is.
        severity: Severity;
        /// What it is about; null if it is the whole run.
        subject: Option<String>;
        /// What is wrong, and likely or typical causes.
        message: String;
        /// What to do about it, unless the message says so.
        remedy: Option<String>;
        /// Possible causes, the likeliest first.
        details: Vec<String>;
        /// The section of the documentation.
        section: &'static str;
    }
}

/// Further names are counted.
const MAX_SUBJECTS: usize = 4;

impl Diagnosis {
    /// A diagnosis whose message also says what to do.
    pub(crate) fn new(severity: Severity, code: &'static str, section: &'static str, message: String) -> Self {
        Self { code, severity, subject: None, message, remedy: None, details: Vec::new(), section }
    }

    /// Those with different texts, each after the names of all that it is about, if there are any: `Anna; Ben: `.
    pub(crate) fn grouped(all: &[Self]) -> Vec<(String, &Self)> {
        let subjects = |group: &[&Self]| -> Vec<_> { group.iter().filter_map(|one| one.subject.clone()).collect() };
        let named = |group: &[&Self]| match subjects(group) {
            none if none.is_empty() => String::new(),
            names => shortened(names, MAX_SUBJECTS).join("; ") + ": ",
        };
        grouped(all, |one| (one.code, one.text())).into_iter().map(|group| (named(&group), group[0])).collect()
    }

    /// For people: the message and the remedy, then one numbered line for each detail.
    pub(crate) fn text(&self) -> String {
        self.write(str::to_owned)
    }

    /// The same with the texts of others escaped.
    pub(crate) fn write(&self, escape: impl Fn(&str) -> String) -> String {
        let remedy = self.remedy.as_ref().map_or_else(String::new, |remedy| format!(" {remedy}"));
        let details = (1..).zip(&self.details).map(|(number, detail)| format!("\n  {number}. {}", escape(detail)));
        escape(&format!("{}{remedy}", self.message)) + &details.collect::<String>()
    }

    /// As HTML.
    pub(crate) fn html(&self) -> String {
        let remedy = self.remedy.as_ref().map(|remedy| format!(" <strong>{}</strong>", escape_html_prose(remedy)));
        let details = self.details.iter().map(|one| format!("<li>{}</li>", escape_html_prose(one)));
        let details = details.collect::<String>();
        let details = if details.is_empty() { details } else { format!("<ol>{details}</ol>") };
        format!("{}{}{details}", escape_html_prose(&self.message), remedy.unwrap_or_default())
    }
}

json_types! {
    Severity => {"enum": [Severity::Note, Severity::Warning, Severity::Error]};
}
