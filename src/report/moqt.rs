//! The connection of a run over MOQT, and what became of groups, as they are printed.

use serde::Serialize;

use super::numbers::unsigned_millis;
use super::websocket::LostWords;
use crate::flow::moqt::{Lost, MoqtRun, SetUp};
use crate::moqt::{Flavour, Transport, code};
use crate::rooms::harmless::harmless;

/// The connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct MoqtNumbers {
    pub transport: &'static str,
    pub flavour: Option<&'static str>,
    pub track: String,
    pub frames_per_group: u64,
    pub asked_again: Option<String>,
    pub groups_sent: u64,
    pub groups_returned: u64,
    pub groups_lost: u64,
    pub groups_in_flight: u64,
    pub frames_missing: u64,
    pub groups_declined: u64,
    pub groups_unsent: u64,
    pub name_ms: Option<f64>,
    pub quic_ms: Option<f64>,
    pub connect_ms: Option<f64>,
    pub session_ms: Option<f64>,
    pub subscribe_ms: Option<f64>,
    pub connection_lost: Option<LostWords>,
}

impl From<&MoqtRun> for MoqtNumbers {
    fn from(run: &MoqtRun) -> Self {
        let MoqtRun { transport, flavour, track, frames_per_group, asked_again, set_up, groups, lost } = run;
        let SetUp { name_ns, quic_ns, connect_ns, session_ns, subscribe_ns } = *set_up;
        Self {
            transport: transport.name(),
            flavour: flavour.map(Flavour::name),
            track: harmless(track),
            frames_per_group: *frames_per_group,
            asked_again: asked_again.as_deref().map(harmless),
            groups_sent: groups.sent,
            groups_returned: groups.returned,
            groups_lost: groups.lost,
            groups_in_flight: groups.in_flight(),
            frames_missing: groups.frames_missing,
            groups_declined: groups.declined,
            groups_unsent: groups.unsent,
            name_ms: name_ns.map(unsigned_millis),
            quic_ms: quic_ns.map(unsigned_millis),
            connect_ms: connect_ns.map(unsigned_millis),
            session_ms: session_ns.map(unsigned_millis),
            subscribe_ms: subscribe_ns.map(unsigned_millis),
            connection_lost: lost.as_ref().map(LostWords::from),
        }
    }
}

impl MoqtNumbers {
    /// What is below MOQT, for people.
    pub(super) fn below(&self) -> &'static str {
        if self.transport == Transport::WebTransport.name() { "WebTransport" } else { "raw QUIC" }
    }
}

impl From<&Lost> for LostWords {
    fn from(lost: &Lost) -> Self {
        let close_code = if let Lost::Closed { code, .. } = lost { Some(*code) } else { None };
        Self { kind: lost.kind(), close_code, text: harmless(&lost.to_string()) }
    }
}

/// The way out, by how the connection was lost.
pub(super) fn advice(lost: &LostWords) -> &'static str {
    match (lost.kind, lost.close_code) {
        ("unreachable", _) => {
            "nobody listens there, or a firewall drops UDP, which QUIC does not tell apart; is it the right host and port, and does the \
             server run? Try `jamjam-dev probe --embedded --moqt` on this machine"
        }
        ("refused", _) => {
            "is it the right URL, path included, and a server of the same MOQT? See docs/moqt.md for which those are"
        }
        ("unready", _) => {
            "what listens there speaks this MOQT and does not echo this track: is the path the echo's, and --moqt-track under the \
             prefix that the server asks for?"
        }
        ("overdue", _) => "what came until then is in the report; tell us how it came to that, and try again",
        ("closed", Some(code::NONE)) => "the server ends, or its work is done: try again",
        ("closed", Some(code::INTERNAL)) => {
            "the server could not go on, or we did not read fast enough: look at its log, or give a longer --interval"
        }
        ("closed", Some(code::PROTOCOL | code::VERSION)) => "the server speaks another MOQT, or another version of it",
        ("closed", Some(code::SETUP)) => "is it the right path?",
        ("closed", _) => "the server or a box on the way has ended it: look at the server's log",
        _ => "the server or a box on the way does not speak as it should, or the network is gone",
    }
}
