//! The report of a relay: what each client and the target have sent, and what became of it. It says what was forwarded, not what arrived.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use quick_junit::{NonSuccessKind, SerializeError, TestSuite};
use serde::Serialize;

use super::figures::figures;
use super::junit::{Outcome, case};
use super::model::SCHEMA_VERSION;
use super::quantities::{duration_millis, format_decimals, format_length, format_share};
use jamjam_core::relay::{Client, Flow, MAX_CLIENTS, RelayResults};
use jamjam_core::stats::Arrivals;

const NAME: &str = "jamjam-dev relay";

figures! {
    /// AUDIO before or after the impairment.
    ForwardedAudioFigures from audio: &Arrivals {
        packets: u64 = audio.sequences.received;
        packets_per_s: Option<f64> = audio.rate();
        lost: u64 = audio.sequences.gaps;
        loss_ratio: Option<f64> = audio.loss_ratio();
        duplicates: u64 = audio.sequences.duplicates;
        reordered: u64 = audio.sequences.reordered;
        longest_silence_ms: f64 = duration_millis(audio.longest_silence);
    }

    /// One direction of a client.
    ForwardedFigures from flow: &Flow {
        datagrams: u64 = flow.datagrams;
        outcomes: BTreeMap<&'static str, u64> = flow.outcomes.clone();
        audio_before: ForwardedAudioFigures = (&flow.arrived).into();
        audio_after: ForwardedAudioFigures = (&flow.left).into();
    }

    /// A client of the relay.
    RelayClientFigures from client: &Client {
        client: u32 = client.number;
        address: SocketAddr = client.address();
        unreachable: u64 = client.unreachable;
        up: ForwardedFigures = (&client.flows[0]).into();
        down: ForwardedFigures = (&client.flows[1]).into();
    }

    /// The report of a relay.
    RelayReport from (target, results, kernel_dropped): (&str, &RelayResults, Option<u64>) [
        let flows = || results.clients.iter().flat_map(|client| &client.flows);
        let sum = |outcome| flows().filter_map(|flow| flow.outcomes.get(outcome)).sum::<u64>();
        let unreachable: u64 = results.clients.iter().map(|client| client.unreachable).sum();
        let findings = [
            (unreachable, "ICMP errors say that nothing listens at the target; start its program, or give another target".to_owned()),
            (sum("limit"), "datagrams exceeded the limits of a client's address; --max-bitrate-per-source off lifts them".to_owned()),
            (sum("buffer_full"), "datagrams did not fit into the memory for delayed datagrams".to_owned()),
            (sum("failed"), "datagrams could not be sent".to_owned()),
            (results.no_socket, format!("datagrams came from further clients than {MAX_CLIENTS} at a time")),
            (results.no_client, "datagrams of the target came for clients that had been silent for 2 minutes".to_owned()),
            (results.invalid_source, "datagrams came from addresses that no host can have".to_owned()),
            (kernel_dropped.unwrap_or(0), "datagrams were dropped by the system before the relay read them".to_owned()),
        ];
    ] {
        #[serde(rename = "type")]
        kind: &'static str = "relay";
        schema_version: u32 = SCHEMA_VERSION;
        tool_version: &'static str = env!("CARGO_PKG_VERSION");
        target: String = target.to_owned();
        clients: Vec<RelayClientFigures> = results.clients.iter().map(RelayClientFigures::from).collect();
        unlisted_clients: u64 = results.unlisted_clients;
        kernel_dropped: Option<u64> = kernel_dropped;
        findings: Vec<String> =
            findings.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    }
}

impl ForwardedFigures {
    /// The columns of the table, and what was not forwarded.
    fn cells(&self) -> String {
        let loss = |audio: &ForwardedAudioFigures| audio.loss_ratio.map_or_else(|| "-".to_owned(), format_share);
        let rate = self.audio_before.packets_per_s.map_or_else(|| "-".to_owned(), |rate| format_decimals(rate, 1));
        let silence = format_length(self.audio_after.longest_silence_ms);
        let sent = self.outcomes.get("sent").unwrap_or(&0);
        let others = self.outcomes.iter().filter(|(name, _)| **name != "sent");
        let others: Vec<_> = others.map(|(name, count)| format!("{name} {count}")).collect();
        let (before, after, others) = (loss(&self.audio_before), loss(&self.audio_after), others.join(", "));
        format!("{:>10}{sent:>10}{rate:>10}{before:>12}{after:>12}{silence:>10}  {others}", self.datagrams)
    }
}

impl RelayReport {
    /// Each direction with its client and its name.
    fn directions(&self) -> impl Iterator<Item = (&RelayClientFigures, &'static str, &ForwardedFigures)> {
        self.clients.iter().flat_map(|client| [(client, "up", &client.up), (client, "down", &client.down)])
    }

    /// The table of all directions, and the findings.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:32}{:>10}{:>10}{:>10}{:>12}{:>12}{:>10}  not forwarded\n",
            "client", "datagrams", "forwarded", "AUDIO/s", "loss before", "loss after", "silence"
        );
        for (RelayClientFigures { client, address, .. }, name, direction) in self.directions() {
            let title = format!("{client} {address} {name}");
            _ = writeln!(text, "{}", format!("{title:32}{}", direction.cells()).trim_end());
        }
        for finding in &self.findings {
            _ = writeln!(text, "finding: {finding}");
        }
        text
    }

    /// A test case for each direction of each client, skipped if nothing came from there, and one that fails if there are findings.
    pub fn junit(&self) -> Result<String, SerializeError> {
        let mut suite = TestSuite::new(NAME);
        for (client, name, direction) in self.directions() {
            let nothing = || Outcome::Skipped("nothing arrived".to_owned());
            let outcome = if direction.datagrams == 0 { nothing() } else { Outcome::Passed };
            let name = format!("client {} {name}", client.client);
            suite.add_test_case(case(NAME, &name, outcome, direction.cells().trim()));
        }
        let failed = |text| Outcome::NotPassed(NonSuccessKind::Failure, "findings".to_owned(), text, String::new());
        let outcome = if self.findings.is_empty() { Outcome::Passed } else { failed(self.findings.join("; ")) };
        suite.add_test_case(case(NAME, "findings", outcome, ""));
        let mut document = quick_junit::Report::new("jamjam-dev");
        document.add_test_suite(suite);
        document.to_string()
    }
}
