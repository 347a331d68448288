//! The connections of a signaling server, and the findings about them: what the hub reports with `--strict`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jamjam_core::time::Time;
use jamjam_signaling::{ConnId, Dialect, NewConnection, Observer, REFUSED, STRICT_RULES};

use super::{CheckReport, CheckedSource, Finding, MAX_SOURCES, SenderCheck, Severity};

/// Maximum number of findings about a connection that differ only in their sentences. Messages with further sentences count together.
const MAX_FINDINGS: usize = 16;

/// The sentence of those.
const FURTHER: &str = "further messages, each wrong in another way";

/// Judges all connections of a server.
#[derive(Debug, Default)]
pub struct SignalingCheck {
    connections: BTreeMap<ConnId, Connection>,
    /// What members send to each other, if the server relays it.
    pub senders: SenderCheck,
    untracked: u64,
    /// When a client last sent a message. Connections that have neither joined a room nor sent a wrong message, such as health checks, do not
    /// count.
    pub last_message: Option<Time>,
}

/// A connection.
#[derive(Debug)]
struct Connection {
    /// Its part of the report, without facts.
    source: CheckedSource,
    dialect: Option<Dialect>,
}

impl Observer for SignalingCheck {
    fn on_connect(&mut self, conn: ConnId, NewConnection { source, route, .. }: &NewConnection) {
        if self.connections.len() == MAX_SOURCES {
            self.untracked += 1;
            return;
        }
        let name = format!("connection {} of {source}", conn.0);
        let source = CheckedSource { name, rules: &STRICT_RULES, ..CheckedSource::default() };
        self.connections.insert(conn, Connection { source, dialect: route.dialect() });
    }

    fn on_activity(&mut self, at: Time, conn: ConnId, membership: Option<(Dialect, bool)>) {
        let mut is_active = membership.is_some_and(|(_, is_member)| is_member);
        if let Some(Connection { source, dialect }) = self.connections.get_mut(&conn) {
            *dialect = membership.map(|(dialect, _)| dialect).or(*dialect);
            source.took_part |= is_active;
            is_active = source.took_part || !source.findings.is_empty();
        }
        if is_active {
            self.last_message = Some(at);
        }
    }

    fn on_wrong_message(&mut self, conn: ConnId, rule: &'static str, sentence: &str) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let findings = &mut connection.source.findings;
        let find = |sentence| findings.iter().position(|finding| finding.rule == rule && finding.message == sentence);
        let sentence = if findings.len() >= MAX_FINDINGS && find(sentence).is_none() { FURTHER } else { sentence };
        if let Some(index) = find(sentence) {
            findings[index].count += 1;
            return;
        }
        let severity = if rule == REFUSED { Severity::Warning } else { Severity::Error };
        let section = "docs/signaling-server.md#check-of-a-client";
        let message = sentence.to_owned();
        findings.push(Finding { rule, severity, message, count: 1, unit: "messages", section, first: None });
        findings.sort_by_key(|finding| (Reverse(finding.severity), finding.rule));
    }
}

impl SignalingCheck {
    /// The state of all connections.
    pub fn report(&self) -> CheckReport {
        let source = |Connection { source, dialect }: &Connection| {
            let room = if source.took_part { "a" } else { "no" };
            let dialect = dialect.map_or("no dialect", Dialect::name);
            CheckedSource { facts: format!("{dialect}, joined {room} room"), ..source.clone() }
        };
        CheckReport {
            sources: self.connections.values().map(source).chain(self.senders.report()).collect(),
            untracked: self.untracked + self.senders.untracked,
            server: "signaling-server",
            expectation: "connections joined a room",
            untracked_name: "further connections or datagrams of members",
            ..CheckReport::default()
        }
    }
}
