//! The connections of a signaling server, and the findings about them: what the hub reports with `--strict`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jamjam_core::time::Time;
use jamjam_signaling::{ConnId, Dialect, NewConnection, REFUSED, STRICT_RULES};

use super::{CheckReport, CheckedSource, Finding, MAX_SOURCES, Severity};

/// Maximum number of findings about a connection that differ only in their sentences. Further ones count for the first one of their rule.
const MAX_FINDINGS: usize = 16;

/// Judges all connections of a server, in a cluster those of its process.
#[derive(Debug, Default)]
pub struct SignalingCheck {
    connections: BTreeMap<ConnId, CheckedSource>,
    untracked: u64,
    /// When a client last connected or sent a message. The caller sets it for messages.
    pub last_event: Option<Time>,
}

impl SignalingCheck {
    /// A client connected.
    pub fn on_connect(&mut self, at: Time, conn: ConnId, NewConnection { source, route, .. }: &NewConnection) {
        self.last_event = Some(at);
        if self.connections.len() == MAX_SOURCES {
            self.untracked += 1;
            return;
        }
        let name = format!("connection {} of {source}", conn.0);
        let facts = format!("{}, joined no room", route.dialect().map_or("no dialect", Dialect::name));
        self.connections.insert(conn, CheckedSource { name, facts, ..CheckedSource::default() });
    }

    /// After each event: reads the dialect of the connections that have not been in a room yet, and whether they are in one now.
    pub fn update_memberships(&mut self, membership: impl Fn(ConnId) -> Option<(Dialect, bool)>) {
        for (conn, source) in self.connections.iter_mut().filter(|(_, source)| !source.is_expected) {
            if let Some((dialect, is_member)) = membership(*conn) {
                source.is_expected = is_member;
                source.facts = format!("{}, joined {} room", dialect.name(), if is_member { "a" } else { "no" });
            }
        }
    }

    /// A message or a connection violates one of the [`STRICT_RULES`].
    pub fn on_wrong_message(&mut self, conn: ConnId, rule: &'static str, sentence: &str) {
        let Some(CheckedSource { findings, .. }) = self.connections.get_mut(&conn) else { return };
        let is_full = findings.len() >= MAX_FINDINGS;
        let is_same = |finding: &&mut Finding| finding.rule == rule && (is_full || finding.message == sentence);
        if let Some(finding) = findings.iter_mut().find(is_same) {
            finding.count += 1;
            return;
        }
        let severity = if rule == REFUSED { Severity::Warning } else { Severity::Error };
        let section = "docs/signaling-server.md#check-of-a-client";
        findings.push(Finding { rule, severity, message: sentence.to_owned(), count: 1, section });
        findings.sort_by_key(|finding| (Reverse(finding.severity), finding.rule));
    }

    /// The state of all connections.
    pub fn report(&self) -> CheckReport {
        CheckReport {
            sources: self.connections.values().cloned().collect(),
            untracked: self.untracked,
            server: "signaling-server".to_owned(),
            expectation: "connections joined a room",
            rules: STRICT_RULES.split(' ').collect(),
        }
    }
}
