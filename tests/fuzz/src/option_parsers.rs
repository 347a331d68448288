//! Parsers of option values. A value that can be printed is parsed again to the same value, and quantities agree with a second computation.

use std::fmt::{Debug, Display};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use jamjam_dev::address::HostPort;
use jamjam_dev::address::{Cidr, source_network};
use jamjam_dev::cli::target::{ListenHostPort, MoqtTarget, Target, UdpTarget};
use jamjam_dev::cli::values::{
    format_bit_rate, format_duration, format_request_rate, format_size, or_off, parse_listen_address,
    parse_message_rate, parse_millis, parse_nonzero_size, parse_origin, parse_percent, parse_port, parse_positive,
    parse_positive_or_off, parse_request_rate, parse_seconds,
};
use jamjam_dev::io::moqt::MoqtUrl;
use jamjam_dev::io::websocket::handshake::WebSocketUrl;
use jamjam_dev::units::{ParseQuantityError, parse_bit_rate, parse_duration, parse_ratio, parse_size};

/// The first byte selects the parser. The rest is the text.
pub(crate) fn run(data: &[u8]) {
    let (kind, text) = data.split_first().unwrap_or((&0, &[]));
    let text = &*String::from_utf8_lossy(text);
    match kind % 16 {
        0 => check_duration(text),
        1 => check_size(text),
        2 => check_bit_rate(text),
        3 => check_ratio(text),
        4 => check_rates(text),
        5 => check_numbers(text),
        6 => check_origin(text),
        7 => check_network(text),
        // Brackets without an IPv6 address are not printed again.
        8 if text.contains('[') && text.parse().is_ok_and(|url: MoqtUrl| !url.host.contains(':')) => {}
        8 => printed_again::<MoqtUrl>(text, |url| assert!(url.port > 0 && url.path.starts_with('/'))),
        9 => check_websocket_url(text),
        10 => check_host_port(text),
        11 => check_listen_host(text),
        12 => check_targets(text),
        13 => check_listen_address(text),
        14 => {
            for (unit, factor) in [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)] {
                check_default_unit(text, unit, factor);
            }
        }
        _ => check_or_off(text),
    }
}

/// Parses `text`, prints the value and parses the printed text.
fn printed_again<T>(text: &str, check: impl FnOnce(&T))
where
    T: FromStr<Err: Display> + Display + PartialEq + Debug,
{
    match text.parse::<T>() {
        Ok(value) => {
            check(&value);
            let printed = value.to_string();
            let again = printed.parse::<T>();
            assert!(again.as_ref().is_ok_and(|again| *again == value), "{text} is printed as {printed}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Computes a quantity from its digits; `None` if the text has another form or the value is too large.
fn quantity(text: &str, units: &[(&str, u128)]) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() && text.len() < 12;
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole = whole.parse::<u128>().ok()? * factor;
    let fraction = fraction.parse::<u128>().ok()? * factor / 10_u128.pow(fraction.len() as u32);
    u64::try_from(whole + fraction).ok()
}

const MINUTE: u128 = 60_000_000_000;

const DURATIONS: &[(&str, u128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", MINUTE),
    ("min", MINUTE),
    ("h", 60 * MINUTE),
];

fn check_duration(text: &str) {
    let parsed = parse_duration(text, "ms");
    check_error(parsed.as_ref().err(), text);
    if let Some(nanos) = quantity(text, DURATIONS) {
        assert_eq!(parsed, Ok(Duration::from_nanos(nanos)), "{text}");
    }
    assert_eq!(parse_millis(text), parsed);
    if let (Ok(duration), Ok(seconds)) = (parsed, parse_seconds(text)) {
        assert!(seconds == duration || seconds == duration.saturating_mul(1_000) || seconds > duration);
        let printed = format_duration(duration);
        assert_eq!(parse_seconds(&printed), Ok(duration), "{printed}");
    }
}

fn check_default_unit(text: &str, unit: &str, factor: u64) {
    let parsed = parse_duration(text, unit);
    if text.ends_with(|letter: char| letter.is_ascii_digit()) {
        assert_eq!(parsed.as_ref().ok(), parse_duration(&format!("{text}{unit}"), unit).as_ref().ok());
    }
    if let Ok(number) = text.parse::<u32>()
        && !text.starts_with('+')
    {
        assert_eq!(parsed.ok(), (text.len() <= 30).then(|| Duration::from_nanos(u64::from(number) * factor)));
    }
}

fn check_error(error: Option<&ParseQuantityError>, text: &str) {
    let shown = error.map(ToString::to_string);
    if let Some(shown) = shown.filter(|shown| shown.contains(" is not a number") || shown.contains(" is too large")) {
        assert!(shown.starts_with(&format!("`{text}` ")), "{shown}");
    }
    assert!(error.is_none_or(|error| !error.to_string().is_empty()));
}

fn check_size(text: &str) {
    let parsed = parse_size(text);
    check_error(parsed.as_ref().err(), text);
    let units: &[(&str, u128)] = &[
        ("", 1),
        ("B", 1),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    if let Some(bytes) = quantity(text, units) {
        assert_eq!(parsed, Ok(bytes), "{text}");
    }
    assert!(parsed.iter().all(|size| parse_size(&format_size(*size)) == parsed), "{text}");
    let nonzero = parse_nonzero_size(text).ok();
    assert_eq!(nonzero, parsed.ok().filter(|bytes| *bytes > 0));
}

fn check_bit_rate(text: &str) {
    let parsed = parse_bit_rate(text);
    check_error(parsed.as_ref().err(), text);
    let units: &[(&str, u128)] =
        &[("bit", 1), ("kbit", 1_000), ("mbit", 1_000_000), ("Mbit", 1_000_000), ("Gbit", 1_000_000_000)];
    if let Some(bits) = quantity(text, units) {
        assert_eq!(parsed, Ok(bits), "{text}");
    }
    assert!(!text.ends_with(|letter: char| letter.is_ascii_digit()) || parsed.is_err() || parsed == Ok(0));
    assert!(parsed.iter().all(|rate| parse_bit_rate(&format_bit_rate(*rate)) == parsed), "{text}");
}

fn check_ratio(text: &str) {
    let parsed = parse_ratio(text);
    check_error(parsed.as_ref().err(), text);
    if let Ok(ratio) = &parsed {
        assert!((0.0..=1.0).contains(ratio), "{text}");
        let number: f64 = text.trim_end_matches('%').trim_end().parse().expect("a number");
        assert!((number / 100.0 - ratio).abs() <= f64::EPSILON, "{text} is parsed as {ratio}");
    }
    let whole = parse_percent(text);
    assert!(whole.as_ref().is_ok_and(|percent| *percent <= 100) || whole.is_err_and(|error| !error.is_empty()));
}

fn check_rates(text: &str) {
    if let Ok(rate) = parse_message_rate(text) {
        assert!(rate > 0 && parse_message_rate(&format!("{rate}/s")) == Ok(rate));
    }
    if let Ok(rate) = parse_request_rate(text) {
        assert!(rate.count > 0 && !rate.period.is_zero() && rate.period.as_secs() <= 31_536_000);
        let printed = format_request_rate(rate);
        assert_eq!(parse_request_rate(&printed), Ok(rate), "{text} is printed as {printed}");
    }
}

fn check_numbers(text: &str) {
    let port = parse_port(text);
    assert_eq!(text.parse::<u16>().ok(), port.ok());
    let number = parse_positive(text);
    assert!(number.as_ref().is_ok_and(|number| *number > 0) || number.is_err());
    assert_eq!(parse_positive_or_off(text).ok().flatten(), number.ok());
}

fn check_origin(text: &str) {
    if let Ok(origin) = parse_origin(text) {
        assert_eq!(parse_origin(&origin).as_ref(), Ok(&origin), "{text}");
        assert!(!origin.ends_with('/') || origin.is_empty(), "{origin}");
    }
}

fn check_network(text: &str) {
    printed_again::<Cidr>(text, |network| {
        let printed = network.to_string();
        let (first, prefix) = printed.split_once('/').expect("a prefix length");
        let first: IpAddr = first.parse().expect("an address");
        assert!(network.contains(first), "{network}");
        assert!(network.contains(source_network(first)) || first.is_ipv6(), "{network}");
        let max = if first.is_ipv4() { "32" } else { "128" };
        let changed = match first {
            IpAddr::V4(ip) => IpAddr::from((ip.to_bits() ^ 1).to_be_bytes()),
            IpAddr::V6(ip) => IpAddr::from((ip.to_bits() ^ 1).to_be_bytes()),
        };
        assert_eq!(network.contains(changed), prefix != max, "{network}");
    });
}

fn check_websocket_url(text: &str) {
    let Ok(url) = text.parse::<WebSocketUrl>() else { return };
    let printed = url.to_string();
    assert!(printed.starts_with(if url.is_secure() { "wss://" } else { "ws://" }));
    let authority = printed.split('/').nth(2).expect("an authority");
    assert!(!authority.starts_with("[]"), "{text} has no host");
    assert!(!printed.contains(['?', ' ']) && !authority.contains('@'), "{printed} may contain a secret");
    let again: WebSocketUrl = printed.parse().expect("a printed URL is valid");
    assert_eq!((again.path(), again.query()), (url.path(), ""));
    let extended = url.with_path_and_query("/ws", &[("token", "a b&c")]).expect("a valid path");
    assert_eq!(extended.path(), "/ws");
    assert!(extended.query().starts_with(url.query()) && extended.query().ends_with("token=a+b%26c"));
}

fn check_host_port(text: &str) {
    if let Ok(HostPort { host, port }) = text.parse() {
        assert!(!host.is_empty() && port != Some(0), "{text}");
        assert!(port.is_none_or(|port| text.ends_with(|last: char| last.is_ascii_digit()) && port > 0));
    }
    if let Ok(target) = text.parse::<UdpTarget>() {
        // A name in Unicode is converted, and an address with a zone is normalized.
        assert!(target.port > 0 && (text.contains(&target.host) || !text.is_ascii() || target.host.contains('%')));
        let printed = target.to_string();
        let again = printed.parse::<UdpTarget>().ok();
        assert!(has_bracket(&target.host) || again == Some(target), "{text} is printed as {printed}");
    }
}

fn check_listen_host(text: &str) {
    if let Ok(listen) = text.parse::<ListenHostPort>() {
        assert!(!listen.host.is_empty(), "{text}");
        let printed = listen.to_string();
        let again = printed.parse().ok();
        let is_number = listen.host.bytes().all(|byte| byte.is_ascii_digit());
        assert!(is_number || has_bracket(&listen.host) || again == Some(listen), "{text} is printed as {printed}");
    }
}

/// A host with a bracket cannot be resolved, and its brackets are ambiguous.
fn has_bracket(host: &str) -> bool {
    host.contains(['[', ']'])
}

fn check_targets(text: &str) {
    match text.parse::<Target>() {
        Ok(Target::Udp(target)) => assert_eq!(text.parse::<UdpTarget>().ok(), Some(target)),
        Ok(Target::Moqt(target)) => assert_eq!(text.parse::<MoqtTarget>().ok(), Some(target)),
        Ok(target @ Target::WebSocket(_)) => assert_eq!(format!("{target:?}"), "WebSocket"),
        Err(error) => assert!(!error.is_empty()),
    }
}

fn check_listen_address(text: &str) {
    if let Ok(address) = parse_listen_address(text) {
        assert_eq!(parse_listen_address(&address.to_string()), Ok(address));
        assert!(text.contains(':') || address.ip().is_loopback());
    }
}

fn check_or_off(text: &str) {
    let size = or_off(parse_size)(text);
    assert_eq!(size == Ok(None), text == "off");
    assert_eq!(size.is_ok_and(|size| size.is_some()), parse_size(text).is_ok());
}
