//! Options that make the echo server's way back a bad path, and tell the fate of each reply.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::Failure;
use super::args::{BitRate, Millis, Percent, written_file};
use super::output::note;
use crate::echo::{Config, Echo};
use crate::io::entropy;
use crate::io::fate_log::{self, FateLog};
use crate::link::{Bandwidth, Burst, DEFAULT_QUEUE, DEFAULT_REORDER_BY, Impairment, Sequences};
use crate::stats::Count;

const HEADING: &str = "Impairment (of an echo server's replies)";

/// What to do to replies.
#[derive(Debug, clap::Args)]
pub struct ImpairmentArgs {
    /// Lose replies at random, such as 1%
    #[arg(long, value_name = "PERCENT", help_heading = HEADING)]
    loss: Option<Percent>,

    /// Lose replies in bursts, which begin with probability P and end with R, such as 1%,30%
    #[arg(long, value_name = "P,R", value_parser = burst, help_heading = HEADING)]
    burst_loss: Option<Burst>,

    /// Lose exactly these AUDIO sequence numbers of each client, such as 10,20-25
    #[arg(long, value_name = "LIST", help_heading = HEADING)]
    drop_packets: Option<Sequences>,

    /// Delay replies by up to this much more, in milliseconds or with a unit, without changing their order
    #[arg(long, value_name = "TIME", help_heading = HEADING)]
    jitter: Option<Millis>,

    /// Hold replies back at random, by 10ms or TIME, so that later ones pass
    #[arg(long, value_name = "PERCENT[,TIME]", help_heading = HEADING)]
    reorder: Option<Reorder>,

    /// Send replies twice at random
    #[arg(long, value_name = "PERCENT", help_heading = HEADING)]
    duplicate: Option<Percent>,

    /// Let no more than this leave, such as 2Mbit, with a queue of 250ms or TIME before it
    #[arg(long, value_name = "RATE[,TIME]", help_heading = HEADING)]
    bandwidth: Option<Narrow>,

    /// Seed of all chance: the same one, the same fate for every packet [default: a random one, which is printed]
    #[arg(long, value_name = "N", help_heading = HEADING)]
    seed: Option<u64>,

    /// Write the fate of each reply to this file, as CSV
    #[arg(long, value_name = "FILE", value_parser = written_file(), help_heading = HEADING)]
    fate_log: Option<PathBuf>,
}

/// An echo server as these options want it.
pub struct Prepared {
    /// The server.
    pub echo: Echo,
    /// The options with which its replies meet the same fate again, if they are impaired.
    pub again: Option<String>,
    /// The file with their fates, if it was asked for.
    pub fates: Option<FateFile>,
}

/// A fate log being written.
pub struct FateFile {
    log: FateLog,
    path: PathBuf,
}

impl ImpairmentArgs {
    /// One of these options that was given, if any.
    pub fn given(&self) -> Option<&'static str> {
        let Self { loss, burst_loss, drop_packets, jitter, reorder, duplicate, bandwidth, seed, fate_log } = self;
        [
            ("--loss", loss.is_some()),
            ("--burst-loss", burst_loss.is_some()),
            ("--drop-packets", drop_packets.is_some()),
            ("--jitter", jitter.is_some()),
            ("--reorder", reorder.is_some()),
            ("--duplicate", duplicate.is_some()),
            ("--bandwidth", bandwidth.is_some()),
            ("--seed", seed.is_some()),
            ("--fate-log", fate_log.is_some()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }

    /// The file with the fates, with its option.
    pub fn fate_log(&self) -> Option<(&'static str, &Path)> {
        self.fate_log.as_deref().map(|file| ("--fate-log", file))
    }

    /// Whether AUDIO alone is impaired.
    pub fn is_about_audio(&self) -> bool {
        self.given() == Some("--drop-packets")
            && self.jitter.is_none()
            && self.reorder.is_none()
            && self.duplicate.is_none()
            && self.bandwidth.is_none()
    }

    /// Makes the server, and opens the file.
    pub fn prepare(&self, config: Config) -> Result<Prepared, Failure> {
        let impairment = self.impairment();
        let impaired = impairment != Impairment { seed: impairment.seed, ..Impairment::default() };
        if self.seed.is_some() && !impaired {
            return Err(Failure::usage("--seed: there is no chance in it; give --loss or another option beside it"));
        }
        let again = impaired.then(|| self.options(impairment.seed));
        let Some(path) = &self.fate_log else {
            let echo = if impaired { Echo::impaired(config, impairment, Box::new(())) } else { Echo::new(config) };
            return Ok(Prepared { echo, again, fates: None });
        };
        let (queue, log) = fate_log::start(path)
            .with_context(|| format!("cannot write the fate log to {}", path.display()))
            .map_err(Failure::unusable)?;
        let echo = Echo::impaired(config, impairment, Box::new(queue));
        Ok(Prepared { echo, again, fates: Some(FateFile { log, path: path.clone() }) })
    }

    fn impairment(&self) -> Impairment {
        let ratio = |given: Option<Percent>| given.map_or(0.0, |Percent(ratio)| ratio);
        Impairment {
            loss: ratio(self.loss),
            burst: self.burst_loss,
            drop_packets: self.drop_packets.clone().unwrap_or_default(),
            jitter: self.jitter.map_or(Duration::ZERO, |Millis(jitter)| jitter),
            reorder: self.reorder.map_or(0.0, |reorder| reorder.ratio),
            reorder_by: self.reorder.map_or(DEFAULT_REORDER_BY, |reorder| reorder.by),
            duplicate: ratio(self.duplicate),
            bandwidth: self.bandwidth.map(|Narrow(bandwidth)| bandwidth),
            seed: self.seed.unwrap_or_else(random_seed),
        }
    }

    /// As one would type them.
    fn options(&self, seed: u64) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let mut add = |option: &str, value: String| _ = write!(text, "--{option} {value} ");
        if let Some(Percent(ratio)) = self.loss {
            add("loss", percent(ratio));
        }
        if let Some((p, r)) = self.burst_loss.map(Burst::probabilities) {
            add("burst-loss", format!("{},{}", percent(p), percent(r)));
        }
        if let Some(packets) = &self.drop_packets {
            add("drop-packets", packets.to_string());
        }
        if let Some(jitter) = self.jitter {
            add("jitter", format!("{jitter}ms"));
        }
        if let Some(Reorder { ratio, by }) = self.reorder {
            add("reorder", format!("{},{}ms", percent(ratio), Millis(by)));
        }
        if let Some(Percent(ratio)) = self.duplicate {
            add("duplicate", percent(ratio));
        }
        if let Some(Narrow(Bandwidth { bits_per_second, queue })) = self.bandwidth {
            add("bandwidth", format!("{},{}ms", BitRate(bits_per_second), Millis(queue)));
        }
        add("seed", seed.to_string());
        text.trim_end().to_owned()
    }
}

impl FateFile {
    /// How many rows were not written so far, to be read at any time.
    pub fn dropped(&self) -> Arc<Count> {
        self.log.dropped()
    }

    /// Completes the file. The server must be gone.
    pub fn finish(self) -> anyhow::Result<()> {
        let dropped = self.dropped();
        let result = self.log.finish();
        if dropped.get() > 0 {
            note(&format!("the fate log lacks {} rows: the disk did not keep up", dropped.get()));
        }
        result.with_context(|| format!("cannot write the fate log to {}", self.path.display()))
    }
}

/// How much is reordered, and how far.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reorder {
    ratio: f64,
    by: Duration,
}

impl FromStr for Reorder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ratio, by) = with_time(text, DEFAULT_REORDER_BY)?;
        if by.is_zero() {
            return Err("held back by 0, nothing is passed; give a time such as 10ms".to_owned());
        }
        let Percent(ratio) = ratio.parse().map_err(in_words)?;
        Ok(Self { ratio, by })
    }
}

/// How much may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Narrow(Bandwidth);

impl FromStr for Narrow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rate, queue) = with_time(text, DEFAULT_QUEUE)?;
        let BitRate(bits_per_second) = rate.parse().map_err(in_words)?;
        if bits_per_second == 0 {
            return Err("at 0 nothing ever leaves; give a bit rate such as 2Mbit".to_owned());
        }
        Ok(Self(Bandwidth { bits_per_second, queue }))
    }
}

/// `VALUE` or `VALUE,TIME`.
fn with_time(text: &str, otherwise: Duration) -> Result<(&str, Duration), String> {
    let Some((value, time)) = text.split_once(',') else { return Ok((text, otherwise)) };
    let Millis(time) = time.parse().map_err(in_words)?;
    Ok((value, time))
}

fn burst(text: &str) -> Result<Burst, String> {
    let (p, r) =
        text.split_once(',').ok_or("give two percentages: how often a burst begins and ends, such as 1%,30%")?;
    let ratio = |text: &str| text.parse().map(|Percent(ratio)| ratio).map_err(in_words);
    Burst::new(ratio(p)?, ratio(r)?).map_err(|error| error.to_string())
}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A ratio as it is typed, without the dust of binary fractions.
fn percent(ratio: f64) -> String {
    format!("{}%", (ratio * 1e12).round() / 1e10)
}

/// A seed short enough to be typed again.
fn random_seed() -> u64 {
    let [word] = entropy::words();
    word % 1_000_000_000
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        impairment: ImpairmentArgs,
    }

    fn options(line: &str) -> ImpairmentArgs {
        Options::parse_from(["x"].into_iter().chain(line.split_whitespace())).impairment
    }

    #[test]
    fn every_option_arrives_where_it_belongs() {
        let line = "--loss 1% --burst-loss 2%,30% --drop-packets 10,20-25 --jitter 5ms --reorder 0.5% --duplicate 0.1% \
                    --bandwidth 2Mbit --seed 7";
        let expected = Impairment {
            loss: 0.01,
            burst: Some(Burst::new(0.02, 0.3).expect("a model")),
            drop_packets: "10,20-25".parse().expect("a set"),
            jitter: Duration::from_millis(5),
            reorder: 0.005,
            reorder_by: Duration::from_millis(10),
            duplicate: 0.001,
            bandwidth: Some(Bandwidth { bits_per_second: 2_000_000, queue: Duration::from_millis(250) }),
            seed: 7,
        };
        assert_eq!(options(line).impairment(), expected);
        let impairment = options("--reorder 1%,20 --bandwidth 500kbit,1s").impairment();
        assert_eq!((impairment.reorder, impairment.reorder_by), (0.01, Duration::from_millis(20)));
        let narrow = Bandwidth { bits_per_second: 500_000, queue: Duration::from_secs(1) };
        assert_eq!(impairment.bandwidth, Some(narrow));
    }

    #[test]
    fn what_is_told_to_run_it_again_means_the_same() {
        for line in [
            "--loss 1% --seed 7",
            "--loss 0.1% --duplicate 33.3% --seed 18446744073709551615",
            "--burst-loss 0.07%,12.5% --drop-packets 20-25,10 --seed 1",
            "--jitter 250us --reorder 0.3%,1s --bandwidth 1.5Mbit,0 --seed 0",
        ] {
            let once = options(line);
            let again = options(&once.options(once.impairment().seed));
            assert_eq!(again.impairment(), once.impairment(), "{line}");
        }
        assert_eq!(options("--loss 1%").options(7), "--loss 1% --seed 7");
        // A random seed is told too.
        let random = options("--loss 1%").impairment().seed;
        assert_ne!(random, options("--loss 1%").impairment().seed);
    }

    #[test]
    fn without_options_nothing_is_impaired() {
        let prepared = options("").prepare(Config::default()).map_err(|failure| failure.error).expect("no file");
        assert!(prepared.again.is_none() && prepared.fates.is_none() && options("").given().is_none());
        for line in ["--loss 1%", "--seed 1", "--fate-log x", "--bandwidth 1mbit", "--drop-packets 1"] {
            assert_eq!(options(line).given(), line.split(' ').next());
        }
    }
}
