//! Options of `echo-server` for MOQT: where to listen, what to echo, and which certificate to show.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::SystemTime;

use anyhow::Context;
use clap::ArgGroup;

use super::Failure;
use super::args::Millis;
use super::demo_page::DemoPageArgs;
use super::target::HostPort;
use crate::echo::Cidr;
use crate::io::moqt::Target;
use crate::io::moqt::server::Terms;
use crate::io::resolve;
use crate::io::tls::identity::Identity;
use crate::io::tls::self_made::SelfMade;
use crate::moqt::fields::PATH_PARTS;
use crate::moqt::{DEFAULT_PORT, Limits, Path, echo};

/// Where `--help` has these options.
pub const HEADING: &str = "MOQT";

/// The host whose addresses are both loopback ones.
const LOCALHOST: &str = "localhost";

/// The group of options one of which makes the server speak MOQT.
pub const WANTED: &str = "moqt_wanted";

/// Where to listen: a name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    host: String,
    port: u16,
}

impl Default for Place {
    fn default() -> Self {
        Self { host: LOCALHOST.to_owned(), port: DEFAULT_PORT }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.parse() {
            return Ok(Self { port, ..Self::default() });
        }
        // Any free port is no port to connect to, but one to listen on.
        let (place, free) = text
            .strip_suffix(":0")
            .filter(|place| place.starts_with('[') || !place.contains(':'))
            .map_or((text, None), |place| (place, Some(0)));
        // A name is not a number out of range, nor a URL.
        let is_name = place.chars().any(|c| !c.is_ascii_digit()) && !place.contains('/');
        let place = place.parse::<HostPort>().ok().filter(|_| is_name);
        let HostPort { host, port } = place.ok_or(
            "give ADDR:PORT, such as localhost:4443, 0.0.0.0:4443 or [::]:4443, or a port for this machine alone",
        )?;
        let port = free.or(port);
        Ok(Self { host, port: port.unwrap_or(DEFAULT_PORT) })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Place {
    /// The host as a client on this machine would name it.
    pub fn host(&self) -> &str {
        let is_any = self.host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
        if is_any { LOCALHOST } else { &self.host }
    }

    /// The addresses to listen on, all of them where there are several.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        if self.host.eq_ignore_ascii_case(LOCALHOST) {
            // Browsers try both, whatever this machine's name server says.
            return Ok(vec![(Ipv4Addr::LOCALHOST, self.port).into(), (Ipv6Addr::LOCALHOST, self.port).into()]);
        }
        let found = resolve::resolve(&self.host, self.port);
        found.map_err(|error| Failure::unusable(anyhow::Error::from(error).context(format!("--moqt {self}"))))
    }
}

/// Whether and how to echo MOQT.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new(WANTED).args(["moqt", "moqt_only"]).multiple(true)))]
pub struct MoqtArgs {
    /// Echo MOQT too, over WebTransport and raw QUIC on one UDP port; localhost:4443 if no place is given, over IPv4 and IPv6
    #[arg(long, value_name = "ADDR:PORT", num_args = 0..=1, default_missing_value = LOCALHOST, help_heading = HEADING)]
    moqt: Option<Place>,

    /// Echo MOQT, and nothing else: no UDP packets of jamjam
    #[arg(long, conflicts_with_all = ["port", "host", "max_buffer", "max_buffer_per_client", "socket_buffer", "spin", "max_rate_per_source", "max_bits_per_source", "limit_loopback", "room_name"], help_heading = HEADING)]
    moqt_only: bool,

    /// Path that clients ask for
    #[arg(long, value_name = "PATH", value_parser = url_path, requires = WANTED, default_value_t = Terms::default().path, help_heading = HEADING)]
    moqt_path: String,

    /// What the paths of echoed tracks begin with in the seed's flavour, its parts between commas; in the head's it is always /
    #[arg(long, value_name = "PARTS", value_parser = prefix, requires = WANTED, default_value_t = echo::Config::default().prefix, help_heading = HEADING)]
    moqt_prefix: Path,

    /// How long to hold each frame, in milliseconds or with a unit
    #[arg(long, value_name = "MS", requires = WANTED, default_value_t = Millis(echo::Config::default().delay), help_heading = HEADING)]
    moqt_delay: Millis,

    /// PEM file with the certificate to show, then those that vouch for it; without it the server makes one itself
    #[arg(long, value_name = "FILE", requires_all = [WANTED, "key"], help_heading = HEADING)]
    cert: Option<PathBuf>,

    /// PEM file with the certificate's private key, not encrypted
    #[arg(long, value_name = "FILE", requires_all = [WANTED, "cert"], help_heading = HEADING)]
    key: Option<PathBuf>,

    /// Folder in which the certificate that the server makes itself is kept, so that clients know it again
    #[arg(long, value_name = "DIR", requires = WANTED, conflicts_with = "cert", help_heading = HEADING)]
    cert_dir: Option<PathBuf>,

    /// The page for browsers.
    #[command(flatten)]
    pub demo_page: DemoPageArgs,
}

impl MoqtArgs {
    /// Where to listen, if MOQT is spoken at all.
    pub fn place(&self) -> Option<Place> {
        self.moqt.clone().or_else(|| self.moqt_only.then(Place::default))
    }

    /// Whether nothing else is.
    pub fn is_alone(&self) -> bool {
        self.moqt_only
    }

    /// The files that are read or kept, each with its option.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        let given = [("--cert", self.cert.clone()), ("--key", self.key.clone())];
        let kept = self.cert_dir.iter().flat_map(|folder| SelfMade::files(folder)).map(|file| ("--cert-dir", file));
        given.into_iter().filter_map(|(option, file)| Some((option, file?))).chain(kept)
    }

    /// The certificate for a server at `place`: as given, or one that is made for it.
    pub fn identity(&self, place: &Place) -> Result<Identity, Failure> {
        let now = SystemTime::now();
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            let read = Identity::read(cert, key, now).context("--cert and --key");
            return read.map_err(Failure::unusable);
        }
        let maker = SelfMade::new([place.host.as_str()], self.cert_dir.clone());
        let made = Identity::self_made(maker, now);
        made.context("--cert-dir").map_err(Failure::unusable)
    }

    /// The file that clients can be given as `--ca`, if there is one that stays.
    pub fn certificate_file(&self) -> Option<PathBuf> {
        self.cert_dir.as_deref().map(SelfMade::certificate_in)
    }

    /// What is served, to those whom `allow` names.
    pub fn terms(&self, allow: &[Cidr]) -> Terms {
        let echo =
            echo::Config { prefix: self.moqt_prefix.clone(), delay: self.moqt_delay.0, ..echo::Config::default() };
        Terms { path: self.moqt_path.clone(), echo, allow: allow.to_owned(), ..Terms::default() }
    }
}

/// Reads the path of a URL; the slash before it may be left out.
fn url_path(text: &str) -> Result<String, String> {
    let path = format!("/{}", text.strip_prefix('/').unwrap_or(text));
    let read = format!("moqt://{LOCALHOST}{path}").parse::<Target>();
    let is_path = read.is_ok_and(|target| target.path == path) && !path.contains('?');
    if is_path {
        Ok(path)
    } else {
        Err("give the path of a URL as URLs write it, such as /echo: without a query or dots between slashes, and with %20 for a blank".to_owned())
    }
}

/// Reads the parts of a path.
fn prefix(text: &str) -> Result<Path, String> {
    let path = Path::typed(text);
    let longest = Limits::default().path_bytes;
    if path.0.len() < PATH_PARTS && path.len() < longest {
        Ok(path)
    } else {
        Err(format!(
            "a track's path has at most {PATH_PARTS} parts and {longest} bytes, the track's own name among them"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_or_a_name_with_a_port_or_one_of_them() {
        for (text, host, port) in [
            ("localhost", "localhost", 4_443),
            ("4444", "localhost", 4_444),
            ("0", "localhost", 0),
            ("localhost:0", "localhost", 0),
            ("0.0.0.0:5443", "0.0.0.0", 5_443),
            ("[::]:0", "::", 0),
            ("[::1]:1", "::1", 1),
            ("::1", "::1", 4_443),
            ("fe80::0", "fe80::0", 4_443),
            ("echo.example.org", "echo.example.org", 4_443),
        ] {
            assert_eq!(text.parse(), Ok(Place { host: host.to_owned(), port }), "{text}");
        }
        for text in ["", ":0", ":4443", "70000", "host:70000", "host:x", "https://localhost:4443", "[::1", "a:b:c"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_host_of_a_url_is_one_that_can_be_asked() {
        for (text, host) in [("0.0.0.0:1", "localhost"), ("[::]:1", "localhost"), ("192.0.2.1:1", "192.0.2.1")] {
            assert_eq!(text.parse::<Place>().expect("a place").host(), host);
        }
    }

    #[test]
    fn a_path_is_that_of_a_url_and_nothing_more() {
        for (text, path) in [("/echo", "/echo"), ("echo", "/echo"), ("/", "/"), ("/a/b%20c", "/a/b%20c")] {
            assert_eq!(url_path(text).as_deref(), Ok(path), "{text}");
        }
        for text in ["/a b", "/echo?x=1", "/echo#x", "/\u{e9}cho\n", "/a/../echo", "/./echo", "/%2e%2e/echo"] {
            assert!(url_path(text).is_err(), "{text}");
        }
    }
}
