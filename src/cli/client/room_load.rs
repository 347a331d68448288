//! `probe --to ws://… --clients N`: the run with members of rooms.

use anyhow::anyhow;

use super::websocket::WebSocketProbeArgs;
use super::{ClientArgs, FinishedRun};
use crate::cli::output::{Failure, are_notices_silenced};
use crate::client::{RoomLoad, RoomLoadConfig, RoomResults};
use crate::io::signaling::room_load::{self, RoomLoadTarget};
use crate::io::status_line::StatusLine;
use crate::io::stop::StopToken;
use crate::io::websocket::connect::DEFAULT_CONNECT_TIMEOUT;
use crate::io::websocket::handshake::WebSocketUrl;
use crate::io::{clock, os};

/// Open files of this process beside those of the members.
const OTHER_FILES: u64 = 64;

impl ClientArgs {
    /// Sends messages in rooms of the server at `url`. `args` complete `config`.
    pub(crate) fn load_rooms(
        &self,
        url: &WebSocketUrl,
        args: &WebSocketProbeArgs,
        config: RoomLoadConfig,
        stop: &StopToken,
    ) -> Result<u8, Failure> {
        let (load, urls) = args.room_load(url, self.room.room.as_deref(), config)?;
        let target = RoomLoadTarget {
            urls,
            socket_options: self.network.options_without_port("with --clients")?,
            tls: self.room.tls_config(&url.clone().into())?,
            timeout: self.connect_timeout().unwrap_or(DEFAULT_CONNECT_TIMEOUT),
        };
        self.files.prepare(stop)?;
        os::raise_descriptor_limit();
        let (members, needed) = (load.results.members, load.results.members + OTHER_FILES);
        if let Some(limit) = os::descriptor_limit().filter(|limit| *limit < needed) {
            return Err(anyhow!("{members} members need {needed} open files, but the limit is {limit} (ulimit -n)").into());
        }
        let mut status = if are_notices_silenced() { None } else { StatusLine::new(Some(members)) };
        let started_unix_ms = clock::unix_ms();
        let load = room_load::run(load, target, stop, |load| {
            status.iter_mut().for_each(|line| line.draw(load.results.joined, progress(load)));
        });
        drop(status);
        let load = load.map_err(|error| anyhow!("cannot probe {url}: {error}"))?;
        let mut run = load.into_results(url.to_string());
        (run.started_unix_ms, run.interrupted) = (started_unix_ms, stop.signal());
        self.report(FinishedRun::new(run, None, None))
    }
}

/// The counts that change now.
fn progress(load: &RoomLoad) -> String {
    let RoomResults { members, joined, refused, disconnected, sent, .. } = load.results;
    let lost = format!("{refused} refused, {disconnected} disconnected");
    match sent {
        0 => format!("{joined} of {members} members joined, {lost}"),
        _ => format!("{} of {} deliveries, {lost}", load.deliveries.returned, load.deliveries.sent),
    }
}
