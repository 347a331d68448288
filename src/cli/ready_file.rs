//! `--ready-file`: where clients reach a server and its room, once all of it exists. The command of `--run` has the same values in its
//! environment.

use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::{io, thread};

use anyhow::Context;
use serde::Serialize;

use super::values::{OutputFile, output_file_parser};
use crate::address::url_authority;
use crate::client::StopSignal;
use crate::io::files;
use crate::io::reachable::reachable_addresses;
use crate::io::stop::StopToken;
use crate::signaling::client::RegisteredRoom;

/// The environment of a command. Variables without a value are not set.
pub(crate) type Environment = [(&'static str, Option<String>); 6];

/// What a server offers to clients on this machine, as in the file. What does not exist is `None`.
#[derive(Default, Serialize)]
pub(crate) struct Ready {
    /// Host and port for UDP.
    pub udp: Option<String>,
    /// The signaling server, as `http` or `https`.
    pub signaling_url: Option<String>,
    /// The signaling server, as `ws` or `wss`.
    pub ws_url: Option<String>,
    /// URL of the metrics.
    pub metrics: Option<String>,
    /// URL of the MOQT echo.
    pub moqt: Option<String>,
    /// The room of an echo server.
    pub room: Option<ReadyRoom>,
    /// The first and the last port at which media is relayed, such as `40000-40999`.
    pub relay_ports: Option<String>,
}

/// A room and its invite codes: nine characters, and six for older clients.
#[derive(Serialize)]
pub(crate) struct ReadyRoom {
    id: String,
    name: String,
    code: Option<String>,
    code_6: Option<String>,
}

/// Host and port at which a client on this machine reaches a server that listens on `address`.
pub(crate) fn local_authority(address: SocketAddr) -> String {
    url_authority(&reachable_addresses(address)[0])
}

#[derive(clap::Args, Clone)]
pub(crate) struct ReadyFileArgs {
    /// Write addresses and the room to this JSON file when the server is ready
    ///
    /// The file is removed at the start, and then written as a whole. Its members are `udp` (HOST:PORT), `signaling_url` (http), `ws_url`,
    /// `metrics`, `moqt`, `room` (`id`, `name`, `code`, `code_6`) and `relay_ports`. What does not exist is null.
    #[arg(long, value_name = "FILE", value_parser = output_file_parser())]
    ready_file: Option<OutputFile>,
}

impl ReadyFileArgs {
    /// Removes the file, which an earlier server wrote. Otherwise, scripts that wait for the file could read what no longer exists.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        self.change(|file| files::prepare_absent(file))
    }

    /// Writes the file, if there is one.
    pub(crate) fn write(&self, ready: &Ready) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(ready)? + "\n";
        self.change(|file| files::write(file, &text))
    }

    fn change(&self, change: impl FnOnce(&OutputFile) -> io::Result<()>) -> anyhow::Result<()> {
        let Some(file) = &self.ready_file else { return Ok(()) };
        change(file).with_context(|| format!("cannot write the ready file {}", file.display()))
    }
}

impl Ready {
    /// Sets both URLs of the signaling server that has this one.
    pub(crate) fn with_signaling(self, url: &str) -> Self {
        let rest = url.trim_start_matches("http").trim_start_matches("ws");
        Self { signaling_url: Some(format!("http{rest}")), ws_url: Some(format!("ws{rest}")), ..self }
    }

    /// Writes the file on a new thread once `room` exists, if there will be one. From then on, the cell has the values. If the file cannot be
    /// written, the cell has the error, and the server stops.
    pub(crate) fn announce(
        mut self,
        file: ReadyFileArgs,
        room: Option<Receiver<RegisteredRoom>>,
        stop: &StopToken,
    ) -> io::Result<Arc<OnceLock<anyhow::Result<Ready>>>> {
        let (ready, stop) = (Arc::<OnceLock<_>>::default(), stop.clone());
        let announced = Arc::clone(&ready);
        thread::Builder::new().name("ready-file".to_owned()).spawn(move || {
            if let Some(room) = room {
                // The sender is dropped if the server stops before the room exists.
                let Ok(RegisteredRoom { id, name, code, code_6 }) = room.recv() else { return };
                // A server without newer clients has only the short code.
                let code = (code_6.as_ref() != Some(&code)).then_some(code);
                self.room = Some(ReadyRoom { id, name, code, code_6 });
            }
            let written = file.write(&self).map(|()| self);
            let failed = written.is_err();
            _ = announced.set(written);
            if failed {
                stop.request(StopSignal::Terminate);
            }
        })?;
        Ok(ready)
    }

    /// The environment of a command. `SERVER` is the UDP server, or without one the signaling server.
    pub(crate) fn environment(&self) -> Environment {
        let authority = self.ws_url.as_ref().and_then(|url| Some(url.split_once("://")?.1.to_owned()));
        let room = self.room.as_ref();
        [
            ("SERVER", self.udp.clone().or(authority)),
            ("SIGNALING_URL", self.signaling_url.clone()),
            ("SIGNALING_WS_URL", self.ws_url.clone()),
            ("ROOM_ID", room.map(|room| room.id.clone())),
            ("ROOM_CODE", room.and_then(|room| room.code.clone())),
            ("ROOM_CODE_6", room.and_then(|room| room.code_6.clone())),
        ]
    }
}
