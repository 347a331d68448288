//! Options of `echo-server` that keep it from being aimed at others.

use std::fmt;
use std::str::FromStr;

use super::Failure;
use super::args::{BitRate, OrOff};
use crate::echo::{Cidr, Protection};
use crate::io::entropy;
use crate::units::UnitError;

const HEADING: &str = "Protection";

/// A rate in packets a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PacketRate(u64);

impl FromStr for PacketRate {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let example = "a number of packets a second such as 8000";
        text.parse().map(Self).map_err(|_| UnitError::NotANumber { text: text.to_owned(), example })
    }
}

impl fmt::Display for PacketRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who is answered, and how much.
#[derive(Debug, clap::Args)]
pub struct ProtectionOptions {
    /// Most packets a second to one address, whatever its port; IPv6: to one /64. A number or off; above it is silence
    #[arg(long, value_name = "RATE", default_value_t = OrOff(Protection::default().max_rate.map(PacketRate)), help_heading = HEADING)]
    max_rate_per_source: OrOff<PacketRate>,

    /// The same in bits of IP packets: a bit rate (500kbit, 64mbit) or off
    #[arg(long, value_name = "BITRATE", default_value_t = OrOff(Protection::default().max_bits.map(BitRate)), help_heading = HEADING)]
    max_bits_per_source: OrOff<BitRate>,

    /// Answer only these networks (192.0.2.0/24) or addresses, loopback too only if named; comma-separated or repeated
    #[arg(long, value_name = "CIDR", value_delimiter = ',', help_heading = HEADING)]
    allow: Vec<Cidr>,

    /// Limit loopback sources as well
    #[arg(long, help_heading = HEADING)]
    limit_loopback: bool,
}

impl ProtectionOptions {
    /// Who is answered; if nobody is named, everybody.
    pub fn allow(&self) -> &[Cidr] {
        &self.allow
    }

    /// As the server is told, with a secret of this process's own.
    pub fn protection(&self) -> Result<Protection, Failure> {
        let nobody = |option: &str| Failure::usage(format!("--{option} 0 would answer nobody; use a rate, or off"));
        if self.max_rate_per_source.0 == Some(PacketRate(0)) {
            return Err(nobody("max-rate-per-source"));
        }
        if self.max_bits_per_source.0 == Some(BitRate(0)) {
            return Err(nobody("max-bits-per-source"));
        }
        Ok(Protection {
            max_rate: self.max_rate_per_source.0.map(|PacketRate(rate)| rate),
            max_bits: self.max_bits_per_source.0.map(|BitRate(rate)| rate),
            allow: self.allow.clone(),
            limit_loopback: self.limit_loopback,
            key: entropy::words(),
        })
    }
}
