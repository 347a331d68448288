//! A probe over WebSocket: connects, asks, and leaves the same result as one over UDP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::super::Failure;
use super::super::args::Size;
use super::super::distinct::refuse_one_file_twice;
use super::super::lines;
use super::watch::Watch;
use super::{ClientArgs, Ended};
use crate::flow::run::{Command, Run, StreamKind};
use crate::flow::websocket::{Lost, WebSocketRun};
use crate::flow::{Asker, Asking, Client, Terms};
use crate::io::stop::Stop;
use crate::io::udp::DEFAULT_BUFFER;
use crate::io::websocket::{self, BeginError, Begun, Connected, Plan};
use crate::time::nanos;

impl ClientArgs {
    /// Refuses options that mean nothing over WebSocket.
    pub fn refuse_over_websocket(&self) -> Result<(), Failure> {
        let Size(buffer) = self.socket_buffer;
        let given = [
            ("--ask-server", self.ask.is_asked()),
            ("--hold", self.hold.is_some()),
            ("--socket-buffer", buffer != DEFAULT_BUFFER as u64),
        ];
        let given = given.into_iter().find_map(|(option, given)| given.then_some(option));
        match given.or_else(|| self.impairment.given()).or_else(|| self.room.is_about_udp()) {
            Some(option) => Err(over_udp_only(option)),
            None => Ok(()),
        }
    }

    /// Asks `count` questions, or until stopped, one every `interval`.
    pub fn converse(&self, plan: &Plan, count: Option<u64>, interval: Duration, stop: &Stop) -> Result<Ended, Failure> {
        refuse_one_file_twice(self.written())?;
        let Some(url) = plan.urls.first() else { return Err(Failure::usage("nobody to ask")) };
        let tls = self.room.tls_to(url)?;
        self.files.prepare()?;
        let begun = websocket::begin(plan, &tls, self.wait_for.map(|wait| wait.0), stop);
        let Begun { set_ups, wait, connected } = begun.map_err(|error| match error {
            BeginError::Stopped(reason) => Failure {
                code: reason.exit_code(),
                error: anyhow::anyhow!("interrupted while connecting to {url}; nothing was asked"),
            },
            error => Failure::unusable(anyhow::Error::from(error).context(format!("cannot probe {url}"))),
        })?;
        let connections = WebSocketRun { set_ups, ..WebSocketRun::new(plan.dialect) };
        let mut ended = match connected {
            Ok(connected) => self.ask(connected, plan, (count, interval), connections, stop)?,
            Err(lost) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos);
                let websocket = Some(WebSocketRun { lost: Some(lost), ..connections });
                let run = Run::new(Command::Probe, url.to_string(), StreamKind::Ping);
                let timeout_ns = nanos(self.timeout.0);
                let late_after_ns = self.late_after.map(|late| nanos(late.0));
                let run = Run { started_unix_ms: now / 1_000_000, websocket, timeout_ns, late_after_ns, ..run };
                Ended { run, broken: None, page: None }
            }
        };
        ended.run.wait = wait;
        Ok(ended)
    }

    fn ask(
        &self,
        connected: Connected,
        plan: &Plan,
        (count, interval): (Option<u64>, Duration),
        connections: WebSocketRun,
        stop: &Stop,
    ) -> Result<Ended, Failure> {
        let terms = Terms {
            peer: connected.peer,
            judged: StreamKind::Ping,
            hold: None,
            first_echo: Duration::ZERO,
            timeout: self.timeout.0,
            late_after: self.late_after.map(|late| late.0),
            answers_expected: true,
            // The connection has waited already.
            wait_for: None,
            ask: None,
        };
        let (queue, mut printer) = self.json_lines.then(lines::channel).unzip();
        let client: Asker = Client::new(terms, Asking::new(connected.dialogue(plan), count, interval), Box::new(queue));
        let live = client.live();
        let watch = Watch::start(&live, count, printer.as_mut());
        let running = connected
            .spawn(client, stop.clone(), self.spin)
            .context("cannot start a thread")
            .map_err(Failure::unusable)?;
        let mut watched = watch.until_it_ends(running, stop);
        let mut websocket = connections;
        websocket.clock_offset = watched.client.script().clock_offset();
        websocket.complaint = watched.client.script().complaint().map(str::to_owned);
        let mut broken = None;
        if let Err(error) = std::mem::replace(&mut watched.tally.result, Ok(())) {
            match error.downcast::<Lost>() {
                Ok(lost) => {
                    let missing = watched.client.cut_off(watched.tally.ended);
                    websocket.lost = missing.then_some(lost);
                }
                Err(error) => broken = Some(anyhow::Error::from(error).context("cannot go on with the connection")),
            }
        }
        let url = plan.urls.first().map(ToString::to_string).unwrap_or_default();
        let run = Run { websocket: Some(websocket), ..watched.into_run(&url, stop, &mut ()) };
        Ok(Ended { run, broken, page: None })
    }
}

/// Says that an option belongs to UDP.
pub(in super::super) fn over_udp_only(option: &str) -> Failure {
    Failure::usage(format!(
        "{option}: it means nothing over WebSocket; leave it out, or give a UDP target as HOST[:PORT] in place of ws://"
    ))
}
