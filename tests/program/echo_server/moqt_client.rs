//! Helpers for the MOQT tests. The helpers parse the echo server's log, run this project's MOQT client, and check echoes.

use std::time::Duration;

use jamjam_dev::io::moqt::client;
use jamjam_dev::io::moqt::connect::{MoqtConnectError, MoqtConnectOptions};
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::io::tls::client::TrustPolicy;
use jamjam_dev::moqt::client::{MoqtClient, MoqtClientConfig, MoqtClientEvent, MoqtRunOutcome};

use test_support::server::TEST_TIMEOUT;
use test_support::server::process::Server;

/// The lines that the server logs before it serves MOQT.
#[derive(Debug)]
pub(crate) struct MoqtLog {
    pub(crate) listening: String,
    pub(crate) webtransport: String,
    pub(crate) quic: String,
    pub(crate) until: String,
    pub(crate) sha256: String,
}

impl MoqtLog {
    /// Parses the log lines that describe the MOQT server.
    pub(crate) fn of(server: &mut Server) -> Self {
        let rest = |message: &str, before: &str, after: &str| {
            let rest = message.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            rest.unwrap_or_else(|| panic!("no {before}…{after} in {message:?}")).to_owned()
        };
        let listening = server.line_starting_with("moqt: listening addresses=").message;
        let [webtransport, quic, certificate] = [(); 3].map(|()| server.line().message);
        let certificate = rest(&certificate, "tls: certificate in use valid_until=", "");
        let (until, sha256) = certificate.split_once(" sha256=").expect("both");
        Self {
            listening: rest(&listening, "moqt: listening addresses=", "").replace('"', ""),
            webtransport: rest(&webtransport, "moqt: serving url=", " transport=WebTransport"),
            quic: rest(&quic, "moqt: serving url=", " transport=QUIC"),
            until: until.to_owned(),
            sha256: sha256.to_owned(),
        }
    }

    /// The port that all URLs share.
    pub(crate) fn port(&self) -> u16 {
        let port = |url: &str| url.rsplit_once(':')?.1.split('/').next()?.parse::<u16>().ok();
        let (one, other) = (port(&self.webtransport), port(&self.quic));
        assert_eq!(one, other, "{self:?}");
        one.unwrap_or_else(|| panic!("no port in {self:?}"))
    }

    /// Both URLs.
    pub(crate) fn urls(&self) -> [&str; 2] {
        [&self.webtransport, &self.quic]
    }

    /// A policy that trusts only the logged certificate.
    pub(crate) fn pinned(&self) -> TrustPolicy {
        TrustPolicy { pinned: Some(self.sha256.parse().expect("a fingerprint")), ..TrustPolicy::default() }
    }
}

/// `group_count` groups of two frames.
pub(crate) fn groups(group_count: Option<u64>) -> MoqtClientConfig {
    let group_interval = Duration::from_millis(4);
    MoqtClientConfig {
        group_count,
        frames_per_group: 2,
        group_interval,
        reply_timeout: TEST_TIMEOUT,
        subscribe_timeout: TEST_TIMEOUT,
        ..MoqtClientConfig::default()
    }
}

/// The outcome of a run, and its events.
pub(crate) struct RunResult {
    pub(crate) outcome: MoqtRunOutcome,
    pub(crate) events: Vec<MoqtClientEvent>,
}

/// Runs a client to its end.
pub(crate) fn run(url: &str, trust: &TrustPolicy, config: &MoqtClientConfig) -> Result<RunResult, MoqtConnectError> {
    run_and_watch(&connect_options(url, trust), config, |_| ())
}

/// Connection options for `url` that verify the server according to `trust`.
pub(crate) fn connect_options(url: &str, trust: &TrustPolicy) -> MoqtConnectOptions {
    MoqtConnectOptions::new(url.parse().expect("a URL"), trust.verifier().expect("a verifier"))
}

/// Runs a client to its end, and passes its events to `watch`.
pub(crate) fn run_and_watch(
    connect_options: &MoqtConnectOptions,
    config: &MoqtClientConfig,
    mut watch: impl FnMut(&MoqtClientEvent),
) -> Result<RunResult, MoqtConnectError> {
    let mut events = Vec::new();
    let observe = |client: &mut MoqtClient| {
        while let Some(event) = client.poll_event() {
            watch(&event);
            events.push(event);
        }
    };
    let outcome =
        client::run_session(connect_options, || MoqtClient::new(config.clone()), observe, &StopToken::default())?;
    Ok(RunResult { outcome: outcome.handler.outcome().expect("an end").clone(), events })
}

/// Checks that three groups return completely, each with its frames in order.
pub(crate) fn assert_echoes(url: &str, trust: &TrustPolicy, config: &MoqtClientConfig) -> Vec<MoqtClientEvent> {
    let run_result = run(url, trust, &MoqtClientConfig { group_count: Some(3), ..config.clone() })
        .unwrap_or_else(|error| panic!("{url}: {error}"));
    assert_eq!(run_result.outcome, MoqtRunOutcome::Completed, "{url}");
    let returned = run_result.events.iter().filter_map(|event| match *event {
        MoqtClientEvent::FrameReturned { group, frame, intact: true, .. } => Some((group, frame)),
        _ => None,
    });
    // Each group has its own stream, so a later group may overtake an earlier group.
    let mut returned: Vec<_> = returned.collect();
    returned.sort_by_key(|(group, _)| *group);
    assert_eq!(returned, [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)], "{url}");
    run_result.events
}
