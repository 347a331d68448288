//! Values of options: durations, sizes, rates, percentages, addresses and enumerations. For each quantity that is a default, a function prints
//! the spelling that its parser accepts, so that the help shows defaults as a user would type them.

use std::env;
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, ColorChoice, Command, Error, ValueEnum};

use crate::address::{HostPort, ParseHostError, without_zone};
use crate::client::StreamKind;
use crate::echo::LinkPolicy;
use crate::io::resolve::resolve;
use crate::io::{os, udp};
use crate::moqt::{MoqtVersion, Transport};
use crate::rate_limit::WindowLimit;
use crate::report::limits::Profile;
use crate::signaling::Dialect;
use crate::signaling::broadcast::Envelope;
use crate::units::{self, InvalidValue};

/// Whether to color the output on `stream`. With `Auto`, output to a terminal is colored unless NO_COLOR is set and not empty, or TERM
/// names a terminal without colors.
pub(crate) fn use_color(choice: ColorChoice, stream: &impl IsTerminal) -> bool {
    match choice {
        ColorChoice::Auto => {
            stream.is_terminal()
                && os::terminal_has_sequences()
                && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
        ColorChoice::Always => true,
        ColorChoice::Never => false,
    }
}

/// Parser for an option whose values have names. Each value comes with its name and its description for `--help`. Spaces around a name are
/// ignored, as in a comma-separated list.
#[derive(Clone)]
pub(crate) struct Choice<T: 'static>(Vec<(T, PossibleValue)>);

impl<T: Copy> Choice<T> {
    /// A choice between values with their names and descriptions.
    fn new(values: impl IntoIterator<Item = (T, &'static str, &'static str)>) -> Self {
        Self(values.into_iter().map(|(value, name, help)| (value, PossibleValue::new(name).help(help))).collect())
    }
}

impl<T: Copy + Send + Sync + 'static> TypedValueParser for Choice<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        let names = PossibleValuesParser::new(self.0.iter().map(|(_, possible)| possible.clone()));
        let value = value.to_str().map_or(value, |text| OsStr::new(text.trim()));
        let name = names.parse_ref(command, arg, value)?;
        let chosen = self.0.iter().find(|(_, possible)| possible.get_name() == name);
        Ok(chosen.expect("the parser accepts only these names").0)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(|(_, possible)| possible.clone())))
    }
}

pub(crate) fn packet_parser() -> Choice<StreamKind> {
    Choice::new([
        (StreamKind::Ping, "ping", "LATENCY_PING"),
        (StreamKind::Keepalive, "keepalive", "KEEPALIVE, which every echo server answers"),
        (StreamKind::Audio, "audio", "AUDIO, which the server returns after its delay"),
    ])
}

pub(crate) fn profile_parser() -> Choice<Profile> {
    Choice::new([
        (Profile::LanMusic, Profile::LanMusic.name(), "Playing music over a local network"),
        (Profile::InternetMusic, Profile::InternetMusic.name(), "Playing music over the Internet"),
        (Profile::Voice, Profile::Voice.name(), "Conversation"),
    ])
}

pub(crate) fn driver_parser() -> Choice<udp::Backend> {
    Choice::new([
        (udp::Backend::Native, "native", "The fastest driver of this system"),
        (udp::Backend::Portable, "portable", "Portable system calls"),
    ])
}

/// Parser for `--link` of the echo server.
pub(crate) fn link_policy_parser() -> Choice<LinkPolicy> {
    Choice::new([
        (LinkPolicy::Auto, "auto", "Encrypted links of newer clients and plain packets"),
        (LinkPolicy::Require, "require", "Encrypted links only: plain AUDIO is dropped"),
        (LinkPolicy::Plain, "plain", "No encryption: newer clients fall back to plain packets"),
    ])
}

pub(crate) fn envelope_parser() -> Choice<Envelope> {
    Choice::new([
        (Envelope::Document, "document", "{\"type\": \"NAME-content\", ...}, where NAME is the room"),
        (Envelope::Dynode, "dynode", "{\"type\": \"broadcast\", ...}, for Dynode players"),
    ])
}

/// Parser for `--moqt`.
pub(crate) fn transport_parser() -> Choice<Transport> {
    Choice::new([(Transport::Quic, "quic", "Raw QUIC"), (Transport::WebTransport, "webtransport", "Over HTTP/3")])
}

pub(crate) fn moqt_version_parser() -> Choice<MoqtVersion> {
    Choice::new(MoqtVersion::ALL.map(|version| (version, version.rules().name, version.rules().description)))
}

pub(crate) fn dialect_parser() -> Choice<Dialect> {
    Choice::new(Dialect::ALL.map(|dialect| (dialect, dialect.name(), dialect.description())))
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

pub(crate) fn parse_positive(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|number| *number > 0).ok_or("give a whole number above 0")
}

/// Parses a whole number above 0, or `off`.
pub fn parse_positive_or_off(text: &str) -> Result<OrOff<usize>, String> {
    units::parse_or_off(text, parse_positive).map_err(|error| format!("{error}, or off"))
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
pub fn format_request_rate(WindowLimit { count, period }: WindowLimit) -> String {
    match period.as_secs() {
        1 => format!("{count}/s"),
        60 => format!("{count}/m"),
        3_600 => format!("{count}/h"),
        minutes if minutes % 60 == 0 => format!("{count}/{}m", minutes / 60),
        seconds => format!("{count}/{seconds}s"),
    }
}

/// Parses a request rate such as `10/15m`.
pub fn parse_request_rate(text: &str) -> Result<WindowLimit, &'static str> {
    let parsed = text.split_once('/').and_then(|(count, time)| {
        let count = count.parse().ok().filter(|count: &u32| *count > 0)?;
        let (number, unit) = time.split_at(time.len().checked_sub(1).filter(|end| time.is_char_boundary(*end))?);
        let number: u64 = if number.is_empty() { 1 } else { number.parse().ok().filter(|number| *number > 0)? };
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return None,
        };
        // The maximum is one year, so that the period cannot overflow.
        let per = number.checked_mul(seconds).filter(|seconds| *seconds <= 31_536_000)?;
        Some(WindowLimit { count, period: Duration::from_secs(per) })
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
    let invalid = |reason: &str| Err(format!("{reason}; give the scheme and host, such as https://www.example.org"));
    let Some((scheme, rest)) = text.split_once("://") else { return invalid("scheme missing") };
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(is_scheme) {
        return invalid("scheme missing");
    }
    // A trailing slash, as in a browser's address bar, is not a path.
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return invalid("an origin must not contain a path");
    }
    if !authority.is_ascii() {
        return invalid("the host name must be in ASCII form (xn--)");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_address = host.starts_with('[') && host.ends_with(']');
    let is_invalid = |letter: char| letter.is_ascii_whitespace() || letter.is_control() || "@*,:[]".contains(letter);
    if host.is_empty() || !is_address && host.contains(is_invalid) {
        return invalid("host missing or invalid");
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return invalid("the port must be a number up to 65535");
    }
    let default_port = match &*scheme.to_ascii_lowercase() {
        "http" | "ws" => Some("80"),
        "https" | "wss" => Some("443"),
        _ => None,
    };
    Ok(match port {
        Some(port) if Some(port) != default_port => format!("{scheme}://{host}:{port}"),
        _ => format!("{scheme}://{host}"),
    })
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
            "https://a.example//",
            "https://a.example/x",
            "https://a.example?x",
            "https://a.example#x",
            "https://*.a.example",
            "https://u@a.example",
            "https://a b",
            "https://ü.example",
            "https://a.example:65536",
            "https://a.example:",
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
