//! Which way packets were lost, as far as the server was asked and told.

use std::net::SocketAddr;

use serde::Serialize;

use super::document::Report;
use super::numbers::StreamNumbers;
use super::wording::count;
use crate::flow::run::{Asked, StreamKind};

/// What the server told when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct AskedNumbers {
    pub answered: bool,
    pub seen_as: Option<SocketAddr>,
}

impl From<Asked> for AskedNumbers {
    fn from(asked: Asked) -> Self {
        Self { answered: asked.answered, seen_as: asked.seen_as }
    }
}

impl AskedNumbers {
    /// The address as it reads in the text.
    pub(super) fn seen_as(&self) -> String {
        self.seen_as.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
    }
}

/// Says that asking would tell which way packets were lost, where nobody asked.
pub(super) fn not_asked(report: &Report, judged: Option<&StreamNumbers>) -> Option<String> {
    // Where nothing came back there are other things to look at first.
    let lost = judged.filter(|stream| stream.is_heard()).map_or(0, |stream| stream.lost);
    (report.asked.is_none() && report.is_over_udp() && lost > 0).then(|| {
        "which way packets were lost is not known; --ask-server tells, where the server is a jamjam-dev".to_owned()
    })
}

/// Says of which streams the server, though asked, did not tell what reached it.
pub(super) fn not_told(report: &Report) -> Option<String> {
    report.asked?;
    let lost = |(kind, stream): (StreamKind, &StreamNumbers)| {
        stream.lost_outward.is_none().then(|| count(stream.lost, &format!("{} packet", kind.name())))
    };
    let lost: Vec<String> = report.streams.iter().filter_map(lost).collect();
    let why = match (report.interrupted, report.asked.is_some_and(|asked| asked.answered)) {
        (Some(_), _) => "the run was interrupted before the server was asked again",
        (None, true) => "the server did not tell what reached it, at the beginning and at the end",
        (None, false) => "the server did not answer when it was asked",
    };
    (!lost.is_empty()).then(|| format!("which way {} were lost is unknown: {why}", lost.join(" and ")))
}
