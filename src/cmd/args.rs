//! Values that more than one option takes.

use std::ffi::OsStr;
use std::fmt;
use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{EnumValueParser, PathBufValueParser, PossibleValue, TypedValueParser};
use clap::{Arg, Command, Error, ValueEnum};

use crate::io::{log, udp};
use crate::units::{self, Unit, UnitError};

/// A file that is written: never `-`, which elsewhere means standard output and here would be a file of this name.
pub fn written_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|file| {
        let names_no_file = file.as_os_str() == "-";
        if names_no_file {
            Err("standard output is not written to here; for a file of that name say ./-")
        } else {
            Ok(file)
        }
    })
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Colour {
    /// Whether to colour what goes to `stream`.
    pub fn on(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Auto => stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// How the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text an event
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

impl From<LogFormat> for log::Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

/// Which UDP driver to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// The best there is on this system
    #[default]
    Native,
    /// Plain calls that every system has
    Portable,
}

impl From<Driver> for udp::Backend {
    fn from(driver: Driver) -> Self {
        match driver {
            Driver::Native => Self::Native,
            Driver::Portable => Self::Portable,
        }
    }
}

/// Where to listen: `ADDR:PORT`, or a bare port, which is one of this machine's own (127.0.0.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl FromStr for Listen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| text.parse::<u16>().ok();
        let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let here = || text.strip_prefix("localhost:").and_then(port).or_else(|| port(text)).map(local);
        text.parse().ok().or_else(here).map(Self).ok_or_else(|| {
            "give ADDR:PORT, such as 127.0.0.1:9464, [::1]:9464 or 0.0.0.0:9464, or a port for this machine alone"
                .to_owned()
        })
    }
}

/// A duration whose bare number is milliseconds, as the option has always been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub Duration);

impl FromStr for Millis {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        units::parse_duration(text, Unit::Millis).map(Self)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs_f64() * 1e3)
    }
}

/// A duration whose bare number is seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl FromStr for Seconds {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        units::parse_duration(text, Unit::Seconds).map(Self)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        units::parse_size(text).map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            size if size > 0 && size.is_multiple_of(1 << 30) => write!(f, "{}GiB", size >> 30),
            size if size > 0 && size.is_multiple_of(1 << 20) => write!(f, "{}MiB", size >> 20),
            size => write!(f, "{size}"),
        }
    }
}

/// A bit rate in bits a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRate(pub u64);

impl FromStr for BitRate {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        units::parse_bit_rate(text).map(Self)
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            rate if rate > 0 && rate.is_multiple_of(1_000_000_000) => write!(f, "{}gbit", rate / 1_000_000_000),
            rate if rate > 0 && rate.is_multiple_of(1_000_000) => write!(f, "{}mbit", rate / 1_000_000),
            rate if rate > 0 && rate.is_multiple_of(1_000) => write!(f, "{}kbit", rate / 1_000),
            rate => write!(f, "{rate}bit"),
        }
    }
}

/// A percentage, as a ratio from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(pub f64);

impl FromStr for Percent {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        units::parse_ratio(text).map(Self)
    }
}

/// Reads a whole percentage of one core, with or without its sign.
pub fn spin(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number
        .filter(|percent| *percent <= 100)
        .ok_or_else(|| "give a whole percentage from 0 to 100, such as 25".to_owned())
}

/// Reads one of a list of names, which may have spaces around it.
#[derive(Clone)]
pub struct Spaced<T: ValueEnum + Clone + Send + Sync + 'static>(EnumValueParser<T>);

impl<T: ValueEnum + Clone + Send + Sync + 'static> Default for Spaced<T> {
    fn default() -> Self {
        Self(EnumValueParser::new())
    }
}

impl<T: ValueEnum + Clone + Send + Sync + 'static> TypedValueParser for Spaced<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        let value = value.to_str().map_or(value, |text| OsStr::new(text.trim()));
        self.0.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
    }
}

/// A value, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrOff<T>(pub Option<T>);

impl<T: FromStr<Err = UnitError>> FromStr for OrOff<T> {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        units::or_off(text, T::from_str).map(Self)
    }
}

impl<T: fmt::Display> fmt::Display for OrOff<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("off"),
        }
    }
}
