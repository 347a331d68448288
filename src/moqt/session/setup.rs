//! The session stream: offering versions, choosing one, refusing what is not ours.

use super::super::code;
use super::super::fields::Malformed;
use super::super::message::{Body, Flavour, PATH_PARAMETER, SessionClient, SessionServer, SessionUpdate, StreamType};
use super::action::{Event, Kind, Stream};
use super::entry::{Entry, Role};
use super::streams::PIECES;
use super::{Phase, Session};

/// What is said to who speaks another protocol of the same name.
pub(super) const FOREIGN: &str =
    "this is another MOQ (first byte 0x20); spoken here are the versions 0xffffff00 and 0xfeedbabe only";

/// Which end of a session this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The one that was connected to.
    Server {
        /// The path that is served, such as `/echo`.
        served: String,
        /// The path that the transport was asked for, where it was (WebTransport): it has been judged. Over raw QUIC `None`.
        asked: Option<String>,
    },
    /// The one that connected.
    Client {
        /// What it speaks, the preferred one first; not empty.
        offers: Vec<Flavour>,
        /// The path that it asks for.
        path: String,
        /// Whether the transport has asked for it (WebTransport); over raw QUIC the session does.
        asked: bool,
    },
}

/// Whether who asks for `asked` wants what is served as `served`: a slash before it, or a query behind it, makes no difference.
pub fn serves(served: &str, asked: &str) -> bool {
    let path = asked.split_once('?').map_or(asked, |(path, _)| path);
    let bare = |path: &str| path.strip_prefix('/').unwrap_or(path).to_owned();
    bare(served) == bare(path)
}

impl Session {
    /// What is to be done before anything has come: a client opens the session stream.
    pub(super) fn begin(&mut self) {
        let End::Client { offers, path, asked } = &self.end else { return };
        let mut hello = SessionClient {
            versions: offers.iter().map(|offer| offer.version()).collect(),
            ..SessionClient::default()
        };
        if !asked {
            hello.parameters.push((PATH_PARAMETER, path.clone().into_bytes()));
        }
        // The set-up is the same in all flavours.
        let bytes = [vec![StreamType::Session as u8], hello.framed(Flavour::Seed)].concat();
        let stream = self.open(Kind::Bidi);
        self.first = Some(stream);
        self.streams.insert(stream, Entry::new(Kind::Bidi, Role::Setup));
        self.say(stream, bytes);
    }

    pub(super) fn on_setup(&mut self, stream: Stream, body: &[u8]) -> Result<(), Malformed> {
        match &self.end {
            End::Server { served, asked } => {
                let hello = SessionClient::parse(Flavour::Seed, body)?;
                let path = match asked.as_deref().map_or_else(|| hello.path(), Ok) {
                    Ok(path) => path,
                    Err(why) => {
                        self.close(code::SETUP, why);
                        return Ok(());
                    }
                };
                if asked.is_none() && !serves(served, path) {
                    let reason = format!("there is no {path:.64} here, only {served}");
                    self.close(code::SETUP, &reason);
                    return Ok(());
                }
                let path = path.to_owned();
                let offered = |flavour: &Flavour| hello.versions.contains(&flavour.version());
                let Some(flavour) = Flavour::ALL.into_iter().find(offered) else {
                    self.close(code::VERSION, &no_version(&hello.versions));
                    return Ok(());
                };
                let reply = SessionServer { version: flavour.version(), ..SessionServer::default() };
                self.say(stream, reply.framed(flavour));
                self.establish(stream, flavour, path);
            }
            End::Client { offers, path, .. } => {
                let reply = SessionServer::parse(Flavour::Seed, body)?;
                match Flavour::of(reply.version).filter(|flavour| offers.contains(flavour)) {
                    Some(flavour) => {
                        let path = path.clone();
                        self.establish(stream, flavour, path);
                    }
                    None => self.close(code::VERSION, &no_version(&[reply.version])),
                }
            }
        }
        Ok(())
    }

    /// The set-up is done: what came early on other streams is looked at.
    fn establish(&mut self, stream: Stream, flavour: Flavour, path: String) {
        self.phase = Phase::Open(flavour);
        self.counts.sessions += 1;
        if let Some(entry) = self.streams.get_mut(&stream) {
            entry.role = Role::Updates;
        }
        self.events.push_back(Event::Established { flavour, path });
        let early: Vec<Stream> = self.streams.keys().copied().filter(|other| *other != stream).collect();
        early.into_iter().fold(PIECES, |left, other| self.advance(other, left));
    }

    /// What is said of the bitrate is not used.
    pub(super) fn on_session_update(&mut self, body: &[u8]) -> Result<(), Malformed> {
        SessionUpdate::parse(Flavour::Seed, body)?;
        self.counts.messages_ignored += 1;
        Ok(())
    }
}

fn no_version(offered: &[u64]) -> String {
    let offered: Vec<String> = offered.iter().take(8).map(|version| format!("{version:#x}")).collect();
    format!("no version in common: {} offered, 0xffffff00 and 0xfeedbabe spoken", offered.join(", "))
}
