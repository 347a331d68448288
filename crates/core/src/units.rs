//! Parses quantities in options: `5ms`, `0.5%`, `64MiB`, `2mbit`, `off`.
//!
//! Decimals are parsed as integers and scaled, so `0.1ms` is exactly 100,000 ns.

use std::time::Duration;

use thiserror::Error;

/// Why a quantity, a network or a setting of the impairment is invalid, as text for the user.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct InvalidValue(pub String);

const DURATION_EXAMPLE: &str = "a duration such as 5ms or 2s";

const DURATION_UNITS: &[(&str, u128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

const SIZE_UNITS: &[(&str, u128)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const BIT_RATE_UNITS: &[(&str, u128)] = &[
    ("bit", 1),
    ("kbit", 1_000),
    ("mbit", 1_000_000),
    ("Mbit", 1_000_000),
    ("gbit", 1_000_000_000),
    ("Gbit", 1_000_000_000),
];

/// Parses `5ms`, `250us`, `1.5s`, `2m`. A number without a unit is in `default_unit`, for example `ms`. Fractions of a nanosecond are cut off.
pub fn parse_duration(text: &str, default_unit: &str) -> Result<Duration, InvalidValue> {
    let number = DecimalNumber::parse(text, DURATION_EXAMPLE)?;
    let nanos = number.scale(DURATION_UNITS, default_unit, "ns, us, ms, s, m or h", "584 years")?;
    Ok(Duration::from_nanos(nanos))
}

/// Parses `4096`, `64KiB`, `1.5GiB`, `8MB`. A number without a unit is in bytes. Fractions of a byte are cut off.
pub fn parse_size(text: &str) -> Result<u64, InvalidValue> {
    let number = DecimalNumber::parse(text, "a size such as 64MiB or 4096")?;
    number.scale(SIZE_UNITS, "B", "B, KiB, MiB, GiB, TiB, kB, MB or GB", "16777215TiB")
}

/// Parses `64mbit`, `2Mbit`, `500kbit`, `1.5Gbit` as bits per second, in multiples of 1,000. Every number except 0 needs a unit. The
/// result is rounded down to whole bits per second.
pub fn parse_bit_rate(text: &str) -> Result<u64, InvalidValue> {
    let number = DecimalNumber::parse(text, "a bit rate such as 64mbit or 500kbit")?;
    if number.unit.is_empty() && number.digits > 0 {
        // Users who omit the unit rarely mean bits per second.
        return Err(InvalidValue(format!(
            "`{text}` could be bits or megabits per second; use {text}bit or {text}mbit"
        )));
    }
    number.scale(BIT_RATE_UNITS, "bit", "bit, kbit, mbit or gbit", "18446744073gbit")
}

/// Parses `0.5%` or `0.5` as 0.005.
pub fn parse_ratio(text: &str) -> Result<f64, InvalidValue> {
    let number = DecimalNumber::parse(text, "a percentage such as 0.5%")?;
    match number.unit {
        "%" | "" => {}
        unit => return Err(unknown_unit(unit, "%")),
    }
    // A single division of two exact numbers rounds only once, so that a limit of 0.1% equals a measured ratio of 1 in 1,000.
    let ratio = number.digits as f64 / 10f64.powi(number.decimals as i32 + 2);
    if ratio > 1.0 { Err(too_large(text, "100%")) } else { Ok(ratio) }
}

/// `off` is `None`. `parse` parses everything else.
pub fn parse_or_off<T, E>(text: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, E> {
    if text == "off" { Ok(None) } else { parse(text).map(Some) }
}

/// A decimal number with its unit.
struct DecimalNumber<'a> {
    text: &'a str,
    /// All digits as one integer.
    digits: u128,
    /// Number of decimal places.
    decimals: u32,
    unit: &'a str,
}

impl<'a> DecimalNumber<'a> {
    fn parse(text: &'a str, example: &str) -> Result<Self, InvalidValue> {
        let not_a_number = || InvalidValue(format!("`{text}` is not a number; expected {example}"));
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || number.ends_with('.') || number.len() > 30 {
            return Err(not_a_number());
        }
        if unit.starts_with(',') {
            return Err(InvalidValue(format!("`{text}`: use a decimal point, not a comma")));
        }
        let digits = format!("{whole}{fraction}").parse().map_err(|_| not_a_number())?;
        Ok(Self { text, digits, decimals: fraction.len() as u32, unit: unit.trim_start() })
    }

    fn scale(&self, units: &[(&str, u128)], default: &str, expected: &str, max: &str) -> Result<u64, InvalidValue> {
        let unit = if self.unit.is_empty() { default } else { self.unit };
        let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
            return Err(unknown_unit(unit, expected));
        };
        let scaled = self.digits.checked_mul(*factor).map(|product| product / 10u128.pow(self.decimals));
        scaled.and_then(|scaled| u64::try_from(scaled).ok()).ok_or_else(|| too_large(self.text, max))
    }
}

fn unknown_unit(unit: &str, expected: &str) -> InvalidValue {
    InvalidValue(format!("unknown unit `{unit}`; expected {expected}"))
}

fn too_large(text: &str, max: &str) -> InvalidValue {
    InvalidValue(format!("`{text}` is too large; the maximum is {max}"))
}
