//! `probe --to ws://… --clients N`: the run with members of rooms.

use std::time::Duration;

use anyhow::anyhow;

use super::websocket::WebSocketProbeArgs;
use super::{ClientArgs, FinishedRun};
use crate::cli::output::{Failure, are_notices_silenced};
use crate::io::signaling::room_load::{self, RoomLoadTarget};
use crate::io::status_line::StatusLine;
use crate::io::stop::StopToken;
use crate::io::websocket::connect::DEFAULT_CONNECT_TIMEOUT;
use crate::io::websocket::handshake::WebSocketUrl;
use crate::io::{clock, os};

/// Open files of this process beside those of the members.
const OTHER_FILES: u64 = 64;

impl ClientArgs {
    /// Sends `count` messages in each room of the server at `url`, one every `interval`, as `members` members in all.
    pub(crate) fn load_rooms(
        &self,
        url: &WebSocketUrl,
        args: &WebSocketProbeArgs,
        (members, interval, count): (usize, Duration, u32),
        stop: &StopToken,
    ) -> Result<u8, Failure> {
        let (load, urls) =
            args.room_load(url, self.room.room.as_deref(), (members, interval, count, self.timeout()))?;
        let target = RoomLoadTarget {
            urls,
            socket_options: self.network.options_without_port("with --clients")?,
            tls: self.room.tls_config(&url.clone().into())?,
            timeout: self.connect_timeout().unwrap_or(DEFAULT_CONNECT_TIMEOUT),
        };
        self.files.prepare(stop)?;
        os::raise_descriptor_limit();
        let (members, needed) = (members as u64, members as u64 + OTHER_FILES);
        if let Some(limit) = os::descriptor_limit().filter(|limit| *limit < needed) {
            return Err(
                anyhow!("{members} members need {needed} open files, but the limit is {limit} (ulimit -n)").into()
            );
        }
        let status = if are_notices_silenced() { None } else { StatusLine::new(Some(members)) };
        let started_unix_ms = clock::unix_ms();
        let load = room_load::run(load, target, stop, |joined, text| {
            if let Some(line) = &status {
                line.draw(joined, text);
            }
        });
        drop(status);
        let load = load.map_err(|error| anyhow!("cannot probe {url}: {error}"))?;
        let mut run = load.into_results(url.to_string());
        (run.started_unix_ms, run.interrupted) = (started_unix_ms, stop.signal());
        self.report(FinishedRun::new(run, None, None))
    }
}
