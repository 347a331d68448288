//! Sessions with signaling servers over WebSocket, whose responses are timed.

use std::time::Duration;

use anyhow::Context;

use super::FinishedRun;
use crate::cli::options::credentials::TrustArgs;
use crate::cli::options::measurement::TimingArgs;
use crate::cli::options::report::PacketReportArgs;
use crate::cli::options::room_target::tls_config;
use crate::cli::output::Failure;
use crate::client::{
    ClientNode, RunConfig, RunKind, RunResults, StreamKind, WebSocketFailure, WebSocketProber, WebSocketResults,
    WebSocketWorkload,
};
use crate::io::clock;
use crate::io::signaling::probe::{self, ProbeConnections, ProbeStart, ProbeStartError, WebSocketTarget};
use crate::io::stop::StopToken;
use crate::io::websocket::connect::DEFAULT_CONNECT_TIMEOUT;
use crate::time::saturating_nanos;

/// A session with a signaling server.
pub(crate) struct WebSocketSession<'a> {
    pub target: WebSocketTarget,
    pub trust: &'a TrustArgs,
    pub timing: TimingArgs,
    /// Maximum share of one core spent busy-waiting.
    pub spin: u8,
    pub report: &'a PacketReportArgs,
}

impl WebSocketSession<'_> {
    /// Sends one request every `interval`: `count` requests, or until stopped if `count` is `None`.
    pub(crate) fn run(&self, count: Option<u64>, interval: Duration, stop: &StopToken) -> Result<FinishedRun, Failure> {
        let (target, url) = (&self.target, &self.target.urls[0]);
        let tls = tls_config(url, self.trust)?;
        self.report.report.files.prepare(stop)?;
        let timeout = self.timing.connect_timeout().unwrap_or(DEFAULT_CONNECT_TIMEOUT);
        let started = probe::start(target, &tls, self.timing.wait_for, timeout, stop);
        let ProbeStart { connect_times, wait: readiness_wait, connections } = started.map_err(|error| match error {
            ProbeStartError::Interrupted(signal) => {
                Failure::interrupted(signal, format_args!("interrupted while connecting to {url}; nothing was sent"))
            }
            error => anyhow::Error::from(error).context(format!("cannot probe {url}")).into(),
        })?;
        let (mut websocket, url) = (WebSocketResults::new(target.dialect), url.to_string());
        websocket.connect_times = connect_times;
        let connections = match connections {
            Ok(connections) => connections,
            Err(failure) => {
                let websocket = Some(WebSocketResults { failure: Some(failure), ..websocket });
                let timeout_ns = saturating_nanos(self.timing.timeout());
                let run = RunResults::new(RunKind::Probe, url, StreamKind::Ping);
                let run = RunResults { started_unix_ms: clock::unix_ms(), websocket, timeout_ns, ..run };
                let record = self.report.create_record(&run)?;
                return Ok(FinishedRun::new(RunResults { readiness_wait, ..run }, None, record));
            }
        };
        // The client already waited for the server (`--wait-for`) while it connected.
        let config = RunConfig::new(ProbeConnections::PEER, StreamKind::Ping, self.timing.timeout());
        let workload = WebSocketWorkload::new(connections.request_matcher(target), count, interval);
        let client: WebSocketProber = ClientNode::new(config, workload, Box::new(()));
        let start = RunResults { websocket: Some(websocket.clone()), ..client.plan(&url) };
        let (observer, monitor) = self.report.monitor_run(count, start, client.live_figures())?;
        let client = client.with_observer(Box::new(observer));
        let running = connections.spawn(client, stop.clone(), self.spin).context("cannot start a thread")?;
        let mut finished = monitor.wait(running, stop);
        websocket.clock_offset = finished.client.workload.clock_offset();
        websocket.server_error = finished.client.workload.server_error.take();
        let mut run_error = None;
        if let Err(error) = std::mem::replace(&mut finished.tally.result, Ok(())) {
            match error.downcast::<WebSocketFailure>() {
                Ok(failure) => {
                    let has_missing = finished.client.on_disconnected(finished.tally.ended_at);
                    websocket.failure = has_missing.then_some(failure);
                }
                Err(error) => run_error = Some(anyhow::Error::from(error).context("the connection failed")),
            }
        }
        let mut finished = finished.into_run(&url, run_error, stop, &mut ());
        (finished.run.websocket, finished.run.readiness_wait) = (Some(websocket), readiness_wait);
        Ok(finished)
    }
}
