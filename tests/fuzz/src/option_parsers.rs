//! Parsers of quantities and URLs in options. A value that is printed is parsed again to the same value, and quantities agree with a second
//! computation.

use std::fmt::Debug;
use std::time::Duration;

use jamjam_dev::cli::values::{
    format_bit_rate, format_duration, format_request_rate, format_size, parse_message_rate, parse_percent,
    parse_request_rate, parse_seconds,
};
use jamjam_dev::io::moqt::MoqtUrl;
use jamjam_dev::io::websocket::handshake::WebSocketUrl;
use jamjam_dev::units::{parse_bit_rate, parse_duration, parse_ratio, parse_size};

const MINUTE: u128 = 60_000_000_000;

const DURATIONS: &[(&str, u128)] = &[
    ("", 1_000_000),
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", MINUTE),
    ("min", MINUTE),
    ("h", 60 * MINUTE),
];

const SIZES: &[(&str, u128)] = &[
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

const BIT_RATES: &[(&str, u128)] =
    &[("bit", 1), ("kbit", 1_000), ("mbit", 1_000_000), ("Mbit", 1_000_000), ("Gbit", 1_000_000_000)];

/// The first byte selects the parser. The rest is the text.
pub(crate) fn run(data: &[u8]) {
    let (kind, text) = data.split_first().unwrap_or((&0, &[]));
    let text = &*String::from_utf8_lossy(text);
    match kind % 16 {
        0 => {
            let nanos = |duration: Duration| duration.as_nanos() as u64;
            check_quantity(text, parse_duration(text, "ms").map(nanos), DURATIONS);
            if let Ok(duration) = parse_seconds(text) {
                assert_eq!(parse_seconds(&format_duration(duration)), Ok(duration), "{text}");
            }
        }
        1 => {
            check_quantity(text, parse_size(text), SIZES);
            assert!(parse_size(text).iter().all(|size| parse_size(&format_size(*size)) == Ok(*size)), "{text}");
        }
        2 => check_bit_rate(text),
        3 => check_ratio(text),
        4 => check_rates(text),
        // Brackets without an IPv6 address are not printed again.
        8 if text.contains('[') && text.parse().is_ok_and(|url: MoqtUrl| !url.host.contains(':')) => {}
        8 => {
            let url = text.parse::<MoqtUrl>();
            assert!(url.iter().all(|url| url.port > 0 && url.path.starts_with('/')), "{text}");
            // The query may contain a secret and is not printed.
            let path = |path: &str| path.split('?').next().unwrap_or_default().to_owned();
            let printed = |url: &MoqtUrl| MoqtUrl { path: path(&url.path), ..url.clone() };
            assert!(url.iter().all(|url| url.to_string().parse() == Ok(printed(url))), "{text}");
        }
        9 => check_websocket_url(text),
        _ => {}
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

fn check_quantity<E: Debug + ToString>(text: &str, parsed: Result<u64, E>, units: &[(&str, u128)]) {
    match (parsed, quantity(text, units)) {
        (Ok(parsed), Some(expected)) => assert_eq!(parsed, expected, "{text}"),
        (Err(error), None) => assert!(!error.to_string().is_empty()),
        (parsed, expected) => assert!(expected.is_none(), "{text}: {parsed:?}"),
    }
}

fn check_bit_rate(text: &str) {
    let parsed = parse_bit_rate(text);
    assert!(!text.ends_with(|letter: char| letter.is_ascii_digit()) || parsed.is_err() || parsed == Ok(0));
    assert!(parsed.iter().all(|rate| parse_bit_rate(&format_bit_rate(*rate)) == parsed), "{text}");
    check_quantity(text, parsed, BIT_RATES);
}

fn check_ratio(text: &str) {
    if let Ok(ratio) = parse_ratio(text) {
        assert!((0.0..=1.0).contains(&ratio), "{text}");
        let number: f64 = text.trim_end_matches('%').trim_end().parse().expect("a number");
        assert!((number / 100.0 - ratio).abs() <= f64::EPSILON, "{text} is parsed as {ratio}");
    }
    assert!(parse_percent(text).is_ok_and(|percent| percent <= 100) || parse_percent(text).is_err());
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
