//! Quantities as people type them: `5ms`, `0.5%`, `64MiB`, `2mbit`, `off`.
//!
//! Decimals are read as integers and scaled, so `0.1ms` is exactly 100,000 ns.

use std::time::Duration;

use thiserror::Error;

/// The unit a bare number takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds, `ns`.
    Nanos,
    /// Microseconds, `us` or `µs`.
    Micros,
    /// Milliseconds, `ms`.
    Millis,
    /// Seconds, `s`.
    Seconds,
}

impl Unit {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Nanos => "ns",
            Self::Micros => "us",
            Self::Millis => "ms",
            Self::Seconds => "s",
        }
    }
}

/// Why a text is not the quantity that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    /// It does not begin with digits.
    #[error("`{text}` is not a number; write {example}")]
    NotANumber {
        /// What was given.
        text: String,
        /// How it could look.
        example: &'static str,
    },
    /// A number, then something that is no unit of this quantity.
    #[error("`{unit}` is not a unit here; use {known}")]
    UnknownUnit {
        /// What follows the number.
        unit: String,
        /// The units that are.
        known: &'static str,
    },
    /// A ratio without its percent sign could mean two things.
    #[error("`{0}` could be a ratio or a percentage; write {0}%")]
    NoPercentSign(String),
    /// A bit rate without its unit is most likely meant larger than it would be.
    #[error("`{0}` could be bits or megabits a second; write {0}mbit, or {0}bit")]
    NoBitUnit(String),
    /// A comma where a point should be.
    #[error("`{0}`: write a point, not a comma")]
    Comma(String),
    /// Beyond what makes sense or can be held.
    #[error("`{text}` is too large; at most {most}")]
    TooLarge {
        /// What was given.
        text: String,
        /// The largest that is taken.
        most: &'static str,
    },
}

const DURATIONS: &[(&str, u128)] = &[
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

const SIZES: &[(&str, u128)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const BIT_RATES: &[(&str, u128)] = &[
    ("bit", 1),
    ("kbit", 1_000),
    ("mbit", 1_000_000),
    ("Mbit", 1_000_000),
    ("gbit", 1_000_000_000),
    ("Gbit", 1_000_000_000),
];

/// Reads `5ms`, `250us`, `1.5s`, `2m`; a bare number takes `bare`. Finer than a nanosecond is cut off.
pub fn parse_duration(text: &str, bare: Unit) -> Result<Duration, UnitError> {
    let most = "584 years";
    let nanos = Number::read(text, "a duration such as 5ms or 2s")?.scaled(
        DURATIONS,
        bare.suffix(),
        "ns, us, ms, s, m or h",
        most,
    )?;
    let nanos = u64::try_from(nanos).map_err(|_| UnitError::TooLarge { text: text.to_owned(), most })?;
    Ok(Duration::from_nanos(nanos))
}

/// Reads `4096`, `64KiB`, `1.5GiB`, `8MB`; a bare number is bytes. A part of a byte is cut off.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let most = "16777215TiB";
    let bytes = Number::read(text, "a size such as 64MiB or 4096")?.scaled(
        SIZES,
        "B",
        "B, KiB, MiB, GiB, TiB, kB, MB or GB",
        most,
    )?;
    u64::try_from(bytes).map_err(|_| UnitError::TooLarge { text: text.to_owned(), most })
}

/// Reads `64mbit`, `2Mbit`, `500kbit`, `1.5Gbit` as bits a second, multiples of 1,000. Only 0 may stand
/// without its unit. A part of a bit is cut off.
pub fn parse_bit_rate(text: &str) -> Result<u64, UnitError> {
    let most = "18446744073gbit";
    let number = Number::read(text, "a bit rate such as 64mbit or 500kbit")?;
    if number.unit.is_empty() && number.digits > 0 {
        return Err(UnitError::NoBitUnit(text.to_owned()));
    }
    let rate = number.scaled(BIT_RATES, "bit", "bit, kbit, mbit or gbit", most)?;
    u64::try_from(rate).map_err(|_| UnitError::TooLarge { text: text.to_owned(), most })
}

/// Reads `0.5%` as 0.005. Only 0 may stand without its sign.
pub fn parse_ratio(text: &str) -> Result<f64, UnitError> {
    let number = Number::read(text, "a percentage such as 0.5%")?;
    match number.unit {
        "%" => {}
        "" if number.digits == 0 => {}
        "" => return Err(UnitError::NoPercentSign(text.to_owned())),
        unit => return Err(UnitError::UnknownUnit { unit: unit.to_owned(), known: "%" }),
    }
    // One division of two exact numbers: 0.1% is the float nearest to 1/1000, as a measured 1 of 1,000 is.
    let ratio = number.digits as f64 / 10f64.powi(number.decimals as i32 + 2);
    if ratio > 1.0 { Err(UnitError::TooLarge { text: text.to_owned(), most: "100%" }) } else { Ok(ratio) }
}

/// `off` is `None`; everything else is what `parse` makes of it.
pub fn or_off<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, UnitError>) -> Result<Option<T>, UnitError> {
    if text == "off" { Ok(None) } else { parse(text).map(Some) }
}

/// A decimal number as an integer and how many of its digits stand behind the point, and what follows it.
struct Number<'a> {
    text: &'a str,
    digits: u128,
    decimals: u32,
    unit: &'a str,
}

impl<'a> Number<'a> {
    fn read(text: &'a str, example: &'static str) -> Result<Self, UnitError> {
        let not_a_number = || UnitError::NotANumber { text: text.to_owned(), example };
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || number.ends_with('.') || number.len() > 30 {
            return Err(not_a_number());
        }
        if unit.starts_with(',') {
            return Err(UnitError::Comma(text.to_owned()));
        }
        let digits = format!("{whole}{fraction}").parse().map_err(|_| not_a_number())?;
        Ok(Self { text, digits, decimals: fraction.len() as u32, unit: unit.trim_start() })
    }

    fn scaled(
        &self,
        units: &[(&str, u128)],
        bare: &str,
        known: &'static str,
        most: &'static str,
    ) -> Result<u128, UnitError> {
        let unit = if self.unit.is_empty() { bare } else { self.unit };
        let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
            return Err(UnitError::UnknownUnit { unit: unit.to_owned(), known });
        };
        let product = self.digits.checked_mul(*factor);
        product
            .map(|product| product / 10u128.pow(self.decimals))
            .ok_or_else(|| UnitError::TooLarge { text: self.text.to_owned(), most })
    }
}
