//! `probe --to ws://… --clients N`: the members of rooms, the run and its report.

use anyhow::anyhow;

use super::ClientArgs;
use super::websocket::WebSocketProbeArgs;
use crate::cli::output::{Failure, are_notices_silenced, print};
use crate::client::{RoomLoad, RoomLoadConfig, RoomLoadCounts, StopSignal};
use crate::io::os;
use crate::io::signaling::room_load::{self, RoomLoadTarget};
use crate::io::status_line::StatusLine;
use crate::io::stop::StopToken;
use crate::io::websocket::connect::DEFAULT_CONNECT_TIMEOUT;
use crate::io::websocket::handshake::WebSocketUrl;
use crate::report::json;
use crate::report::room_load::RoomLoadReport;
use crate::signaling::Dialect;

/// Open files of this process beside those of the members.
const OTHER_FILES: u64 = 64;

impl ClientArgs {
    /// Sends messages in rooms of the server at `url`. `config` has only what `args` do not determine.
    pub(crate) fn load_rooms(
        &self,
        url: &WebSocketUrl,
        args: &WebSocketProbeArgs,
        config: RoomLoadConfig,
        stop: &StopToken,
    ) -> Result<u8, Failure> {
        let room = self.room.room.as_deref();
        let (load, urls) = args.room_load(url, room, config)?;
        let target = RoomLoadTarget {
            urls,
            room_code: room.filter(|_| load.config.dialect == Dialect::ControlSurface).map(str::to_owned),
            socket_options: self.network.options_without_port("with --clients")?,
            tls: self.room.tls_config(&url.clone().into())?,
            timeout: self.connect_timeout().unwrap_or(DEFAULT_CONNECT_TIMEOUT),
        };
        self.files.prepare(stop)?;
        os::raise_descriptor_limit();
        let needed = config.members as u64 + OTHER_FILES;
        if let Some(limit) = os::descriptor_limit().filter(|limit| *limit < needed) {
            return Err(anyhow!("{} members need {needed} open files of {limit}; raise the limit (ulimit -n)", config.members).into());
        }
        let mut status = if are_notices_silenced() { None } else { StatusLine::new(Some(config.members as u64)) };
        let load = room_load::run(load, target, stop, |load| {
            status.iter_mut().for_each(|line| line.draw(load.counts.joined, progress(load)));
        });
        drop(status);
        let load = load.map_err(|error| anyhow::Error::from(error).context(format!("cannot load {url}")))?;
        let report = RoomLoadReport::new(&load, url.to_string(), &self.limits(), stop.signal());
        if let [ending, ..] = &load.endings[..]
            && load.is_unreachable()
            && stop.signal().is_none()
        {
            return Err(anyhow!("cannot load {url}: {}", ending.failure).into());
        }
        let files = self.files.write_room_load(&report);
        let document = if self.json { json::pretty(&report)? } else { self.wrapped(|color| report.text(color)) };
        print(document.trim_end())?;
        files?;
        Ok(stop.signal().map_or(u8::from(!report.passed), StopSignal::exit_code))
    }
}

/// The counts first that change now.
fn progress(load: &RoomLoad) -> String {
    let RoomLoadCounts { joined, refused, disconnected, sent, received, expected, .. } = load.counts;
    let lost = if refused + disconnected > 0 { format!(", {refused} refused, {disconnected} disconnected") } else { String::new() };
    if sent == 0 {
        format!("{joined} of {} members joined{lost}", load.config.members)
    } else {
        format!("{received} of {expected} deliveries, {sent} messages{lost}")
    }
}
