//! MOQT as a client of this project speaks it, to the program on real sockets: what is said in its log, and an echo.

use std::time::Duration;

use jamjam_dev::io::moqt::client::{self, Dial, DialError};
use jamjam_dev::io::stop::Stop;
use jamjam_dev::io::tls::client::Trust;
use jamjam_dev::moqt::client::{Client, Config, Ending, Fact};

use crate::server::PATIENCE;
use crate::server::process::Server;

/// What the server says of itself before it serves MOQT.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) listening: String,
    pub(crate) webtransport: String,
    pub(crate) quic: String,
    pub(crate) until: String,
    pub(crate) sha256: String,
}

impl Said {
    /// Reads it from the log.
    pub(crate) fn of(server: &mut Server) -> Self {
        let rest = |message: &str, before: &str, after: &str| {
            let rest = message.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            rest.unwrap_or_else(|| panic!("no {before}…{after} in {message:?}")).to_owned()
        };
        let listening = server.line_that_begins("MOQT echo listening on ").message;
        let [webtransport, quic, certificate] = [(); 3].map(|()| server.line().message);
        let certificate = rest(&certificate, "The certificate is valid until ", "");
        let (until, sha256) = certificate.split_once(" and has SHA-256 ").expect("both");
        Self {
            listening: rest(&listening, "MOQT echo listening on ", ""),
            webtransport: rest(&webtransport, "", " (WebTransport)"),
            quic: rest(&quic, "", " (raw QUIC)"),
            until: until.to_owned(),
            sha256: sha256.to_owned(),
        }
    }

    /// The port that all URLs share.
    pub(crate) fn port(&self) -> u16 {
        let port = |url: &str| url.rsplit_once(':')?.1.split('/').next()?.parse::<u16>().ok();
        let (one, other) = (port(&self.webtransport), port(&self.quic));
        assert_eq!(one, other, "{self:?}");
        one.unwrap_or_else(|| panic!("no port in {self:?}"))
    }

    /// Both URLs.
    pub(crate) fn urls(&self) -> [&str; 2] {
        [&self.webtransport, &self.quic]
    }

    /// Believes the certificate that was named, and no other.
    pub(crate) fn pinned(&self) -> Trust {
        Trust { only: Some(self.sha256.parse().expect("a fingerprint")), ..Trust::default() }
    }
}

/// So many groups of two frames.
pub(crate) fn groups(count: Option<u64>) -> Config {
    let interval = Duration::from_millis(4);
    Config { count, frames_per_group: 2, interval, timeout: PATIENCE, patience: PATIENCE, ..Config::default() }
}

/// How a run ended, and its facts.
pub(crate) struct Ran {
    pub(crate) ending: Ending,
    pub(crate) facts: Vec<Fact>,
}

/// Runs a client to its end.
pub(crate) fn run(url: &str, trust: &Trust, config: &Config) -> Result<Ran, DialError> {
    run_and_watch(&dial(url, trust), config, |_| ())
}

/// A call that believes whom `trust` says.
pub(crate) fn dial(url: &str, trust: &Trust) -> Dial {
    Dial::new(url.parse().expect("a URL"), trust.verifier().expect("a judge"))
}

/// Runs a client to its end, and shows what has happened.
pub(crate) fn run_and_watch(dial: &Dial, config: &Config, mut watch: impl FnMut(&Fact)) -> Result<Ran, DialError> {
    let mut facts = Vec::new();
    let observe = |client: &mut Client| {
        while let Some(fact) = client.poll_fact() {
            watch(&fact);
            facts.push(fact);
        }
    };
    let outcome = client::run(dial, || Client::new(config.clone()), observe, &Stop::default())?;
    Ok(Ran { ending: outcome.application.ending().expect("an end").clone(), facts })
}

/// Three groups come back whole, the frames of each in order.
pub(crate) fn assert_echoes(url: &str, trust: &Trust, config: &Config) -> Vec<Fact> {
    let ran =
        run(url, trust, &Config { count: Some(3), ..config.clone() }).unwrap_or_else(|error| panic!("{url}: {error}"));
    assert_eq!(ran.ending, Ending::Done, "{url}");
    let came = ran.facts.iter().filter_map(|fact| match *fact {
        Fact::Came { group, frame, intact: true, .. } => Some((group, frame)),
        _ => None,
    });
    // A later group may overtake an earlier one: each has a stream of its own.
    let mut came: Vec<_> = came.collect();
    came.sort_by_key(|(group, _)| *group);
    assert_eq!(came, [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)], "{url}");
    ran.facts
}
