//! Options of a session that `probe` and `send` have with a MOQT echo server.

use std::time::Duration;

use clap::ValueEnum;

use super::Failure;
use super::args::Millis;
use crate::moqt::client::Config;
use crate::moqt::fields::PATH_PARTS;
use crate::moqt::{Flavour, Limits, Path};

pub(super) const HEADING: &str = "MOQT (with --to moqt:// or https://, or --embedded --moqt)";

/// What is below MOQT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Below {
    /// Bare QUIC
    Quic,
    /// As WebTransport, which is HTTP/3
    Webtransport,
}

/// Which wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Offer {
    /// Version 0xffffff00: tracks are named by a path of parts
    Seed,
    /// Version 0xfeedbabe: a broadcast's path and a track's name
    Head,
}

/// Options of the session.
#[derive(Clone, Debug, clap::Args)]
pub struct SessionArgs {
    /// With --embedded: a MOQT echo server in this process, over raw QUIC, or with --moqt=webtransport over that
    #[arg(long, value_name = "BELOW", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "quic", requires = "embedded", conflicts_with_all = ["delay", "to"], help_heading = HEADING)]
    moqt: Option<Below>,

    /// How long that server holds each frame, in milliseconds or with a unit [default: 0]
    #[arg(long, value_name = "MS", requires = "moqt", help_heading = HEADING)]
    moqt_delay: Option<Millis>,

    /// The one wire format to offer [default: both, and the server chooses]
    #[arg(long, value_name = "FLAVOUR", value_enum, help_heading = HEADING)]
    moqt_flavour: Option<Offer>,

    /// Track to announce and to hear back, its parts between commas; for the seed's flavour, which alone is offered then
    /// [default: japan, kyoto, text]
    #[arg(long, value_name = "PARTS", value_parser = track, help_heading = HEADING)]
    moqt_track: Option<Path>,
}

/// Reads the parts of a path.
fn track(text: &str) -> Result<Path, String> {
    let path = Path::typed(text);
    let longest = Limits::default().path_bytes;
    if (1..=PATH_PARTS).contains(&path.0.len()) && path.len() <= longest {
        Ok(path)
    } else {
        Err(format!("give 1 to {PATH_PARTS} parts of {longest} bytes together at most, such as \"japan, kyoto, text\""))
    }
}

impl SessionArgs {
    /// The option that is given, if one is.
    pub fn given(&self) -> Option<&'static str> {
        let all = [
            ("--moqt", self.moqt.is_some()),
            ("--moqt-delay", self.moqt_delay.is_some()),
            ("--moqt-flavour", self.moqt_flavour.is_some()),
            ("--moqt-track", self.moqt_track.is_some()),
        ];
        all.into_iter().find_map(|(option, given)| given.then_some(option))
    }

    /// Refuses these options where no MOQT is spoken.
    pub fn refuse_in_vain(&self) -> Result<(), Failure> {
        self.given().map_or(Ok(()), |option| Err(Self::in_vain(option)))
    }

    /// Says that an option is for MOQT.
    pub fn in_vain(option: &str) -> Failure {
        Failure::usage(format!(
            "{option}: it is for MOQT; give a server by --to moqt://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH, or --embedded --moqt"
        ))
    }

    /// What is below the embedded server, if one is wanted.
    pub fn embedded(&self) -> Option<Below> {
        self.moqt
    }

    /// How long the embedded server holds each frame.
    pub fn delay(&self) -> Duration {
        self.moqt_delay.map_or(Duration::ZERO, |Millis(delay)| delay)
    }

    /// What is offered, the preferred first. A track of the seed's flavour can be asked for in that alone.
    pub fn offers(&self) -> Result<Vec<Flavour>, Failure> {
        match (self.moqt_flavour, &self.moqt_track) {
            (Some(Offer::Head), Some(_)) => Err(Failure::usage(
                "--moqt-track: in the head's flavour a track has a name in a broadcast, which is always /client.echo, index; leave \
                 it out, or give --moqt-flavour seed",
            )),
            (Some(Offer::Head), None) => Ok(vec![Flavour::Head]),
            (Some(Offer::Seed), _) | (None, Some(_)) => Ok(vec![Flavour::Seed]),
            (None, None) => Ok(Flavour::ALL.to_vec()),
        }
    }

    /// What a client announces and asks for; the rest as it is unless told.
    pub fn config(&self) -> Config {
        let Some(track) = &self.moqt_track else { return Config::default() };
        let prefix = Path::of(track.0.iter().take(track.0.len() - 1).cloned());
        Config { track: track.clone(), prefix, ..Config::default() }
    }
}
