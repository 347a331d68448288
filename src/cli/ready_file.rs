//! `--ready-file`: where clients reach a server and its room, once all of it exists. The command of `--run` has the same values in its
//! environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::{io, thread};

use anyhow::{Context, anyhow};
use serde::Serialize;

use super::file_arguments::{OutputFile, output_file_parser};
use crate::address::url_authority;
use crate::client::StopSignal;
use crate::io::files;
use crate::io::reachable::reachable_addresses;
use crate::io::stop::StopToken;
use crate::sanitize::sanitize;
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
    /// The file is removed at the start and at the end, and written as a whole. Its members are `udp` (HOST:PORT), `signaling_url` (http), `ws_url`,
    /// `metrics`, `moqt`, `room` (`id`, `name`, `code`, `code_6`) and `relay_ports`. What does not exist is null.
    #[arg(long, hide_short_help = true, value_name = "FILE", value_parser = output_file_parser())]
    ready_file: Option<OutputFile>,

    /// The file that this process has written.
    #[arg(skip)]
    own: Arc<OwnFile>,
}

/// A file and its text. It is removed with this value, unless another server has written it since.
#[derive(Default)]
struct OwnFile(OnceLock<(PathBuf, String)>);

impl Drop for OwnFile {
    fn drop(&mut self) {
        if let Some((file, text)) = self.0.take()
            && files::read_text(&file).is_ok_and(|current| current == text.trim_end())
        {
            // The server has ended, which is no reason to fail.
            _ = files::prepare_absent(&file);
        }
    }
}

impl ReadyFileArgs {
    /// Removes the file, which an earlier server wrote. Otherwise, scripts that wait for the file could read what no longer exists. To be called
    /// when nothing can fail any more: the earlier server may still run.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        self.change(|file| files::prepare_absent(file))
    }

    /// Writes the file, if there is one.
    pub(crate) fn write(&self, ready: &Ready) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(ready)? + "\n";
        self.change(|file| {
            files::write(file, &text)?;
            _ = self.own.0.set((file.to_path_buf(), text));
            Ok(())
        })
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
            let written = self.check_room().and_then(|()| file.write(&self)).map(|()| self);
            let failed = written.is_err();
            _ = announced.set(written);
            if failed {
                stop.request(StopSignal::Terminate);
            }
        })?;
        Ok(ready)
    }

    /// Checks what another server has named, as a command of a shell has it in its environment.
    fn check_room(&self) -> anyhow::Result<()> {
        let is_harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_id =
            |text: &str| (1..=128).contains(&text.len()) && text.bytes().all(is_harmless) && !text.starts_with('-');
        let named = self.environment().into_iter().filter(|(name, _)| name.starts_with("ROOM_"));
        let wrong = named.filter_map(|(_, value)| value).find(|value| !is_id(value));
        wrong.map_or(Ok(()), |wrong| {
            let rule = "ids have 1 to 128 letters, digits, `-`, `_` and `.`, and do not begin with `-`";
            Err(anyhow!("the signaling server names the room `{}`, but {rule}", sanitize(&wrong)))
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_foreign_room_are_harmless_in_a_shell() {
        let long = "x".repeat(128);
        for (id, is_harmless) in
            [("1a2b3c4d", true), ("A_b-c.9", true), (&long, true), (&format!("{long}x"), false), ("", false)]
                .into_iter()
                .chain(["-rf", "a b", "$(id)", "a;b", "a\nb", "é"].map(|id| (id, false)))
        {
            for (id, code) in [(id, None), ("1a2b3c4d", Some(id.to_owned()))] {
                let room = Some(ReadyRoom { id: id.to_owned(), name: "a b".to_owned(), code, code_6: None });
                let checked = Ready { room, ..Ready::default() }.check_room();
                assert_eq!(checked.is_ok(), is_harmless, "{id:?}");
            }
        }
    }
}
