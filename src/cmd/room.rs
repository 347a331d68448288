//! `--room`: the target is whoever can be reached in a room on a signaling server; `--list-rooms` prints what is there.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::builder::NonEmptyStringValueParser;
use rustls::ClientConfig;

use super::Failure;
use super::output::{note, print};
use super::trust::TrustArgs;
use crate::io::reach::{self, Silent};
use crate::io::signaling::{self, SignalingUrl, Visit, VisitError};
use crate::io::stop::Stop;
use crate::io::tls::client::Trust;
use crate::rooms::client::guest::Guest;
use crate::rooms::client::listing;

const HEADING_ROOM: &str = "Room (on a signaling server, in place of --to)";

const VARIABLE: &str = "SIGNALING_URL";

/// Addresses that are tried: 16 seconds, if none answers.
const MOST_TRIED: usize = 32;

/// The longest password, in bytes.
const LONGEST_PASSWORD: u64 = 4 << 10;

/// Options of a target that a signaling server knows.
#[derive(Debug, clap::Args)]
pub struct RoomArgs {
    /// Signaling server: ws:// or wss://
    #[arg(long, env = VARIABLE, hide_env_values = true, value_name = "URL", help_heading = HEADING_ROOM)]
    signaling_url: Option<String>,

    /// Join this room and talk to who is there: its name or a part of it, its id or its invite code. Of a ws://
    /// target the room to ask in
    #[arg(long, value_name = "NAME|ID|INVITE", value_parser = NonEmptyStringValueParser::new(), conflicts_with = "embedded", help_heading = HEADING_ROOM)]
    room: Option<String>,

    /// Its password, which every user of this machine can see here
    #[arg(long, requires = "room", help_heading = HEADING_ROOM)]
    password: Option<String>,

    /// File with its password
    #[arg(long, value_name = "FILE", requires = "room", conflicts_with = "password", help_heading = HEADING_ROOM)]
    password_file: Option<PathBuf>,

    /// Print the rooms that are there, and do nothing else
    #[arg(long, conflicts_with_all = ["room", "to", "embedded"], help_heading = HEADING_ROOM)]
    list_rooms: bool,

    #[command(flatten)]
    trust: TrustArgs,
}

/// Somebody in a room.
pub struct Met {
    /// The stay in the room.
    pub visit: Visit,
    /// Where to send to.
    pub address: SocketAddr,
}

impl RoomArgs {
    /// The room, if one is named.
    pub fn named(&self) -> Option<&str> {
        self.room.as_deref()
    }

    /// Whose certificates are believed.
    pub fn trust(&self) -> Trust {
        self.trust.trust()
    }

    /// The option that finds somebody to send UDP to, if one is given.
    pub fn is_about_udp(&self) -> Option<&'static str> {
        let passwords = [("--password", self.password.is_some()), ("--password-file", self.password_file.is_some())];
        let password = passwords.into_iter().find_map(|(option, given)| given.then_some(option));
        self.url_on_the_line().map(|_| "--signaling-url").or(password)
    }

    /// Whether the target is in a room.
    pub fn is_wanted(&self) -> bool {
        self.room.is_some()
    }

    /// Refuses what cannot be meant. A variable of the environment alone means nothing.
    pub fn check(&self) -> Result<(), Failure> {
        let asking = match &self.room {
            Some(_) => "--room",
            None if self.list_rooms => "--list-rooms",
            None => return self.refuse_in_vain(),
        };
        if self.given_url().is_none() {
            return Err(Failure::usage(format!(
                "{asking}: give the signaling server too, by --signaling-url URL or {VARIABLE}"
            )));
        }
        self.url().map(drop)
    }

    fn refuse_in_vain(&self) -> Result<(), Failure> {
        match self.url_on_the_line().map(|_| "--signaling-url").or_else(|| self.trust.given()) {
            Some(option) => Err(Failure::usage(format!(
                "{option}: nobody asks a signaling server here; give --room NAME or --list-rooms too, or leave it out"
            ))),
            None => Ok(()),
        }
    }

    /// Prints the rooms if that is what is asked for, and gives the exit code.
    pub fn list(&self, json: bool, on_one_line: bool) -> Result<Option<u8>, Failure> {
        if !self.list_rooms {
            return Ok(None);
        }
        let (url, tls) = (self.url()?, self.tls()?);
        let rooms = signaling::list(&url, &tls)
            .with_context(|| format!("cannot list the rooms of {url}"))
            .map_err(Failure::unusable)?;
        let text = if json || on_one_line {
            let document = listing::document(&rooms, on_one_line);
            document.context("cannot write the list as JSON").map_err(Failure::unusable)?
        } else {
            listing::table(&rooms)
        };
        print(&mut io::stdout().lock(), &text).map_err(Failure::unusable)?;
        Ok(Some(0))
    }

    /// Joins the room as `name`, if one is given, and finds out who answers there.
    pub fn enter(&self, name: &str, stop: &Stop) -> Result<Option<Met>, Failure> {
        let Some(room) = &self.room else { return Ok(None) };
        let (url, tls) = (self.url()?, self.tls()?);
        let guest = Guest::new(room, self.password()?, name);
        let visit = Visit::begin(url.clone(), tls, guest, stop).map_err(|error| match error {
            VisitError::Stopped(reason) => interrupted(reason.exit_code(), &url),
            error => Failure::unusable(anyhow::Error::from(error).context(format!("cannot join a room on {url}"))),
        })?;
        let tried = &visit.addresses[..visit.addresses.len().min(MOST_TRIED)];
        // Strangers wrote these addresses. Whoever does not answer may not be there, but somebody who is to be harmed.
        let address = reach::first_that_answers(tried, stop).map_err(|silent| match stop.requested() {
            Some(reason) => interrupted(reason.exit_code(), &url),
            None => Failure { code: 1, error: anyhow::anyhow!(in_vain(&visit, &silent)) },
        })?;
        Ok(Some(Met { visit, address }))
    }

    /// What was given. Nothing at all is what a compose file makes of a variable that it does not know.
    fn given_url(&self) -> Option<&str> {
        self.signaling_url.as_deref().filter(|url| !url.is_empty())
    }

    /// The same unless it is what the environment says.
    fn url_on_the_line(&self) -> Option<&str> {
        let from_environment = env::var(VARIABLE).ok();
        self.given_url().filter(|url| from_environment.as_deref() != Some(url))
    }

    fn url(&self) -> Result<SignalingUrl, Failure> {
        let url = self.given_url().unwrap_or_default().parse();
        // The text is not repeated: there may be a password in it.
        url.map_err(|error| Failure::usage(format!("--signaling-url (or {VARIABLE}): {error}")))
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, Failure> {
        self.tls_to(&self.url()?)
    }

    /// What a connection to `url` is made with.
    pub fn tls_to(&self, url: &SignalingUrl) -> Result<Arc<ClientConfig>, Failure> {
        let tls = self.trust.config()?;
        if self.trust.is_insecure() && url.is_secure() {
            note(&format!("--insecure: whoever is on the way to {url} can read and change what is said"));
        }
        Ok(tls)
    }

    fn password(&self) -> Result<Option<String>, Failure> {
        let Some(file) = &self.password_file else { return Ok(self.password.clone()) };
        let password = read_password(file).with_context(|| format!("cannot read a password from {}", file.display()));
        password.map(Some).map_err(Failure::unusable)
    }
}

fn read_password(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(LONGEST_PASSWORD + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= LONGEST_PASSWORD, "it is longer than {LONGEST_PASSWORD} bytes");
    // An editor ends it with a line feed, which nobody means.
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    ensure!(!password.is_empty(), "it is empty");
    Ok(password.to_owned())
}

fn interrupted(code: u8, url: &SignalingUrl) -> Failure {
    Failure { code, error: anyhow::anyhow!("interrupted while joining a room on {url}; nothing was sent") }
}

fn in_vain(visit: &Visit, silent: &[Silent]) -> String {
    let tried: Vec<String> = silent.iter().map(|(address, error)| format!("{address} ({error})")).collect();
    let rest = match visit.addresses.len() - silent.len() {
        0 => String::new(),
        more => format!(", {more} more were not tried"),
    };
    let (room, tried) = (&visit.room, tried.join(", "));
    format!(
        "nobody in room `{room}` answers a KEEPALIVE: {tried}{rest}; nothing else was sent; if you know who is there, give --to \
         in place of --room"
    )
}
