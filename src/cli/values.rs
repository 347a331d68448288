//! Values of options: durations, sizes, rates, percentages, addresses and enumerations. For each quantity that is a default, a function prints
//! the spelling that its parser accepts, so that the help shows defaults as a user would type them.

use std::env;
use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeBounds;
use std::sync::OnceLock;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ColorChoice, ValueEnum};
use url::Url;

use crate::address::{HostPort, ParseHostError, without_zone};
use crate::client::StreamKind;
use crate::echo::LinkPolicy;
use crate::io::resolve::resolve;
use crate::io::{os, udp};
use crate::moqt::{MoqtVersion, Transport};
use crate::rate_limit::RequestRate;
use crate::report::limits::Profile;
use crate::signaling::Dialect;
use crate::signaling::broadcast::Envelope;
use crate::units::{self, InvalidValue};

/// When to use colors: the option of the whole program.
static COLOR: OnceLock<ColorChoice> = OnceLock::new();

/// Applies --color.
pub(super) fn set_color(choice: ColorChoice) {
    _ = COLOR.set(choice);
}

/// Whether to color the output on `stream`. With `auto`, output to a terminal is colored unless NO_COLOR is set and not empty, or TERM
/// names a terminal without colors.
pub(crate) fn use_color(stream: &impl IsTerminal) -> bool {
    match COLOR.get() {
        Some(ColorChoice::Always) => true,
        Some(ColorChoice::Never) => false,
        _ => {
            stream.is_terminal()
                && os::terminal_has_sequences()
                && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    }
}

/// Parser for an option whose values have names: each value with its name and its description for `--help`. A space before a name is
/// ignored, as in a comma-separated list.
fn choice<T, const N: usize>(values: [(T, &'static str, &'static str); N]) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let possible = |(_, name, help): &(T, _, _)| PossibleValue::new(*name).help(*help).alias(format!(" {name}"));
    PossibleValuesParser::new(values.each_ref().map(possible)).map(move |name| {
        let chosen = values.iter().find(|(_, known, _)| *known == name.trim());
        chosen.expect("the parser accepts only these names").0
    })
}

pub(crate) fn packet_parser() -> impl TypedValueParser<Value = StreamKind> {
    choice([
        (StreamKind::Ping, "ping", "LATENCY_PING"),
        (StreamKind::Keepalive, "keepalive", "KEEPALIVE, which every echo server answers"),
        (StreamKind::Audio, "audio", "AUDIO, which the server returns after its delay"),
    ])
}

pub(crate) fn profile_parser() -> impl TypedValueParser<Value = Profile> {
    choice([
        (Profile::LanMusic, Profile::LanMusic.name(), "Playing music over a local network"),
        (Profile::InternetMusic, Profile::InternetMusic.name(), "Playing music over the Internet"),
        (Profile::Voice, Profile::Voice.name(), "Conversation"),
    ])
}

pub(crate) fn driver_parser() -> impl TypedValueParser<Value = udp::Backend> {
    choice([
        (udp::Backend::Native, "native", "The fastest driver of this system"),
        (udp::Backend::Portable, "portable", "Portable system calls"),
    ])
}

/// Parser for `--link` of the echo server.
pub(crate) fn link_policy_parser() -> impl TypedValueParser<Value = LinkPolicy> {
    choice([
        (LinkPolicy::Auto, "auto", "Encrypted links of newer clients and plain packets"),
        (LinkPolicy::Require, "require", "Encrypted links only: plain AUDIO is dropped"),
        (LinkPolicy::Plain, "plain", "No encryption: newer clients fall back to plain packets"),
    ])
}

pub(crate) fn envelope_parser() -> impl TypedValueParser<Value = Envelope> {
    choice([
        (Envelope::Document, "document", "{\"type\": \"NAME-content\", ...}, where NAME is the room"),
        (Envelope::Dynode, "dynode", "{\"type\": \"broadcast\", ...}, for Dynode players"),
    ])
}

/// Parser for `--moqt`.
pub(crate) fn transport_parser() -> impl TypedValueParser<Value = Transport> {
    choice([(Transport::Quic, "quic", "Raw QUIC"), (Transport::WebTransport, "webtransport", "Over HTTP/3")])
}

pub(crate) fn moqt_version_parser() -> impl TypedValueParser<Value = MoqtVersion> {
    choice(MoqtVersion::ALL.map(|version| (version, version.rules().name, version.rules().description)))
}

pub(crate) fn dialect_parser() -> impl TypedValueParser<Value = Dialect> {
    choice(Dialect::ALL.map(|dialect| (dialect, dialect.name(), dialect.facts().description)))
}

/// The link that a client sets up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientLinkMode {
    /// Encrypted, but the server's key is not verified
    Unsigned,
    /// Encrypted, with a server key that is signed by the link key in the room
    Signed,
}

/// Parses an address of this machine with an optional port. `None` if the text is not an address. The flag is true if there is a port.
pub(crate) fn parse_local_address(text: &str) -> Result<Option<(SocketAddr, bool)>, String> {
    let (host, port) = match HostPort::parse_listen(text) {
        Ok(HostPort { host, port }) if without_zone(&host).parse::<IpAddr>().is_ok() => (host, port),
        Err(error @ ParseHostError::Zone(_)) => return Err(error.to_string()),
        _ => return Ok(None),
    };
    // Only a zone has to be resolved, which needs no name server.
    let found = resolve(&host, port.unwrap_or(0)).map_err(|error| error.to_string())?;
    Ok(found.first().map(|address| (*address, port.is_some())))
}

/// Parses a listen address: `ADDR:PORT`, or a bare port on 127.0.0.1.
pub(crate) fn parse_listen_address(text: &str) -> Result<SocketAddr, String> {
    let address = parse_local_address(text)?.and_then(|(address, has_port)| has_port.then_some(address));
    let port = text.strip_prefix("localhost:").unwrap_or(text).parse();
    let loopback = port.ok().map(|port| (Ipv4Addr::LOCALHOST, port).into());
    let remedy =
        "give ADDR:PORT, such as 127.0.0.1:9464, [::1]:9464 or 0.0.0.0:9464, or only a PORT to listen on loopback";
    address.or(loopback).ok_or_else(|| remedy.to_owned())
}

/// Parses a duration. A number without a unit is in milliseconds.
pub fn parse_millis(text: &str) -> Result<Duration, InvalidValue> {
    units::parse_duration(text, "ms")
}

/// Parses a duration. A number without a unit is in seconds.
pub fn parse_seconds(text: &str) -> Result<Duration, InvalidValue> {
    units::parse_duration(text, "s")
}

/// Prints a size in bytes.
pub fn format_size(size: u64) -> String {
    format_with_unit(size, &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1, "")])
}

/// Prints a bit rate in bits per second.
pub(crate) fn format_bit_rate(rate: u64) -> String {
    format_with_unit(rate, &[(1_000_000_000, "gbit"), (1_000_000, "mbit"), (1_000, "kbit"), (1, "bit")])
}

/// Prints a number as a multiple of the first unit that divides it, or 0 with the last unit.
fn format_with_unit(number: u64, units: &[(u64, &str)]) -> String {
    let divides = |(size, _): &&(u64, &str)| *size == 1 || number > 0 && number.is_multiple_of(*size);
    units.iter().find(divides).map_or_else(String::new, |(size, name)| format!("{}{name}", number / size))
}

/// Parses a number of packets.
pub(crate) fn parse_count(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "give a number of packets such as 150, or 0 for no limit")
}

/// Parses a whole percentage, with or without the percent sign.
pub fn parse_percent(text: &str) -> Result<u8, &'static str> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|percent| *percent <= 100);
    percent.ok_or("give a whole percentage from 0 to 100, such as 25")
}

/// A value, or `off`, which is `None`. clap treats a field of the type `Option` as an option that may be omitted.
pub(crate) type OrOff<T> = Option<T>;

/// Parser for a value that `parse` parses, or `off`.
pub(crate) fn or_off<T, E>(
    parse: fn(&str) -> Result<T, E>,
) -> impl Fn(&str) -> Result<OrOff<T>, E> + Clone + Send + Sync + 'static
where
    T: 'static,
    E: 'static,
{
    move |text| units::parse_or_off(text, parse)
}

/// Parser for a duration with these limits. A number without a unit is in `unit`.
pub(crate) fn duration_in(
    unit: &'static str,
    limits: impl RangeBounds<Duration> + Clone + Send + Sync + 'static,
    remedy: &'static str,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let duration = units::parse_duration(text, unit).map_err(|error| error.to_string())?;
        if limits.contains(&duration) { Ok(duration) } else { Err(remedy.to_owned()) }
    }
}

/// Parses a whole number above 0, or `off`.
pub fn parse_positive_or_off(text: &str) -> Result<OrOff<usize>, &'static str> {
    let parse = |text: &str| text.parse().ok().filter(|number| *number > 0);
    units::parse_or_off(text, |text| parse(text).ok_or("give a whole number above 0, or off"))
}

pub(crate) fn parse_nonzero_size(text: &str) -> Result<u64, String> {
    match units::parse_size(text) {
        Ok(0) => Err("the size must be above 0; give a size such as 16MiB".to_owned()),
        other => other.map_err(|error| error.to_string()),
    }
}

/// Parses a rate in messages per second, such as `1000/s`.
pub fn parse_message_rate(text: &str) -> Result<u32, &'static str> {
    let number = text.strip_suffix("/s").and_then(|number| number.parse().ok()).filter(|number| *number > 0);
    number.ok_or("give a rate such as 1000/s, or off")
}

/// Prints a number of requests per period.
pub fn format_request_rate(RequestRate { count, period }: RequestRate) -> String {
    match period.as_secs() {
        1 => format!("{count}/s"),
        60 => format!("{count}/m"),
        3_600 => format!("{count}/h"),
        minutes if minutes % 60 == 0 => format!("{count}/{}m", minutes / 60),
        seconds => format!("{count}/{seconds}s"),
    }
}

/// Maximum period of a request rate: one year.
const MAX_RATE_PERIOD: Duration = Duration::from_secs(31_536_000);

/// Parses a request rate such as `10/15m`.
pub fn parse_request_rate(text: &str) -> Result<RequestRate, &'static str> {
    let parsed = text.split_once('/').and_then(|(count, time)| {
        let count = count.parse().ok().filter(|count: &u32| *count > 0)?;
        let number = if time.starts_with(|first: char| first.is_ascii_digit()) { "" } else { "1" };
        let period = units::parse_duration(&format!("{number}{time}"), "").ok()?;
        let is_valid = (Duration::from_secs(1)..=MAX_RATE_PERIOD).contains(&period);
        is_valid.then_some(RequestRate { count, period })
    });
    parsed.ok_or("give a rate such as 10/15m, 30/m or 5/s, or off")
}

pub(crate) const DEFAULT_SIGNALING_PORT: u16 = 8_080;

pub(crate) fn parse_port(text: &str) -> Result<u16, &'static str> {
    text.parse().map_err(|_| "give a port from 0 to 65535")
}

/// Parses an origin (RFC 6454, section 6.1) into the form that browsers send as `Origin`. This form has no path. The port is omitted if it
/// is the default of the scheme. `null` is the origin of pages that are loaded from files.
pub(crate) fn parse_origin(text: &str) -> Result<String, String> {
    let text = text.trim();
    // The caller ignores an empty list item.
    if text.is_empty() || text == "null" {
        return Ok(text.to_owned());
    }
    let invalid = |reason: &str| format!("{reason}; give the scheme and host, such as https://www.example.org");
    let url: Url = text.parse().map_err(|_| invalid("invalid origin"))?;
    let host = url.host_str().filter(|host| !host.contains('*')).ok_or_else(|| invalid("host missing or invalid"))?;
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    // A trailing slash, as in a browser's address bar, is not a path.
    let is_origin = matches!(url.path(), "" | "/") && url.query().or(url.fragment()).is_none();
    if !is_origin || !url.username().is_empty() {
        return Err(invalid("an origin has no path and no user name"));
    }
    Ok(format!("{}://{host}{port}", url.scheme()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::parse_bit_rate;

    #[test]
    fn origin_matches_what_browsers_send() {
        for (text, origin) in [
            ("https://a.example", "https://a.example"),
            (" https://a.example/ ", "https://a.example"),
            ("https://a.example:443", "https://a.example"),
            ("http://a.example:80/", "http://a.example"),
            ("http://a.example:443", "http://a.example:443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://[::1]", "http://[::1]"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("https://ü.example", "https://xn--tda.example"),
            ("null", "null"),
            ("", ""),
        ] {
            assert_eq!(parse_origin(text).as_deref(), Ok(origin), "{text}");
        }
        for wrong in [
            "a.example",
            "a.example:443",
            "//a.example",
            "://a.example",
            "https://",
            "https:///",
            "https://:443",
            "https://a.example//",
            "https://a.example/x",
            "https://a.example?x",
            "https://a.example#x",
            "https://*.a.example",
            "https://u@a.example",
            "https://a b",
            "https://a.example:65536",
            "https://a:b:1",
            "*",
        ] {
            assert!(parse_origin(wrong).is_err_and(|reason| reason.contains("such as https://")), "{wrong}");
        }
    }

    #[test]
    fn bit_rate_is_printed_as_it_was_entered() {
        let shown = [
            (64_000_000, "64mbit"),
            (1_500_000, "1500kbit"),
            (2_000_000_000, "2gbit"),
            (9_601, "9601bit"),
            (0, "0bit"),
        ];
        for (rate, text) in shown {
            assert_eq!(format_bit_rate(rate), text);
            assert_eq!(parse_bit_rate(text), Ok(rate));
        }
    }
}
