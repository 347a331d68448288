//! Impairment options of an echo server and of `send --no-echo`, and the outcome log. The options are printed as a user would type them, so
//! that a random run can be repeated.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::cli::output::{Failure, ensure_usage, print_notice};
use crate::cli::values::{OutputFile, format_bit_rate, format_duration, output_file_parser, parse_millis};
use crate::echo::{AdmissionConfig, BufferLimits, EchoConfig, EchoServer};
use crate::impairment::{
    BandwidthLimit, DEFAULT_MAX_QUEUE_DELAY, DEFAULT_REORDER_DELAY, GilbertModel, Impairment, SequenceSet,
};
use crate::io::os;
use crate::io::outcome_log::{self, OutcomeLog};
use crate::stats::Counter;
use crate::units::{InvalidValue, parse_bit_rate, parse_ratio};

const HEADING: &str = "Impairment (of echo server replies; with send --no-echo, of sent AUDIO)";

/// The values of `--network`, and the options for which each stands. `docs/tasks/client.md` names the sources.
const NETWORKS: [(&str, &str); 7] = [
    ("lan", "--jitter 1ms"),
    ("dsl", "--jitter 20ms"),
    ("wifi", "--loss 0.5%,50% --jitter 4ms --bandwidth 100mbit,16ms"),
    ("wifi-bad", "--loss 2.5%,50% --jitter 20ms --bandwidth 50mbit,16ms"),
    ("lte", "--loss 1%,50% --jitter 30ms --bandwidth 30mbit,27ms"),
    ("5g", "--loss 1% --jitter 11ms"),
    ("satellite", "--loss 1%,33.3% --jitter 60ms --bandwidth 15mbit,273ms"),
];

/// The conditions under which an option that is not given has a value of a network.
fn network_defaults(option: &str) -> impl Iterator<Item = (&'static str, &'static str, Option<&'static str>)> {
    NETWORKS.into_iter().filter_map(move |(network, options)| {
        let value = options.split(' ').skip_while(|word| *word != option).nth(1);
        value.map(|_| ("network", network, value))
    })
}

/// Parser for `--network`. Each network comes with its options for the man page and the documentation.
fn network_parser() -> PossibleValuesParser {
    NETWORKS.map(|(network, options)| PossibleValue::new(network).help(options)).into()
}

/// Impairment of replies, or of sent AUDIO.
#[derive(clap::Args)]
pub(crate) struct ImpairmentArgs {
    /// Imitate a network, such as wifi, lte or satellite
    ///
    /// Given options replace those of the network.
    #[arg(long, value_name = "NAME", value_parser = network_parser(), help_heading = HEADING)]
    network: Option<String>,

    /// Drop replies at random (1%) or in bursts (1%,30%)
    ///
    /// The second percentage selects the Gilbert model: the first one is the probability that a burst starts at a reply, and the second one
    /// that the burst ends at a reply.
    #[arg(long, value_name = "PERCENT[,PERCENT]", value_parser = parse_loss, default_value_ifs = network_defaults("--loss"), help_heading = HEADING)]
    loss: Option<LossArg>,

    /// Drop replies to AUDIO packets, such as 10,20-25
    #[arg(long, value_name = "LIST", help_heading = HEADING)]
    drop_packets: Option<SequenceSet>,

    /// Delay replies by up to this time, in order
    #[arg(long, value_name = "DURATION", value_parser = parse_millis, default_value_ifs = network_defaults("--jitter"), help_heading = HEADING)]
    jitter: Option<Duration>,

    /// Hold back replies so that later ones overtake them
    ///
    /// Replies are held back by 10ms, or by DURATION if given, and then until a later one has left, at most 1s or DURATION.
    #[arg(long, value_name = "PERCENT[,DURATION]", value_parser = parse_reorder, help_heading = HEADING)]
    reorder: Option<(f64, Duration)>,

    /// Send this share of the replies twice, at random
    #[arg(long, value_name = "PERCENT", value_parser = parse_ratio, help_heading = HEADING)]
    duplicate: Option<f64>,

    /// Limit the bit rate of replies, such as 2Mbit
    ///
    /// Excess replies wait in a queue for up to 250ms, or up to DURATION if given. Replies that would wait longer are dropped.
    #[arg(long, value_name = "BITRATE[,DURATION]", value_parser = parse_bandwidth, default_value_ifs = network_defaults("--bandwidth"), help_heading = HEADING)]
    bandwidth: Option<BandwidthLimit>,

    /// Seed; the same seed repeats the impairment [default: random, printed]
    #[arg(long, value_name = "N", help_heading = HEADING)]
    seed: Option<u64>,

    /// Write the outcome of each reply to this CSV file
    #[arg(long, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING)]
    outcome_log: Option<OutputFile>,
}

/// An echo server with the impairment of these options.
pub(crate) struct PreparedEcho {
    pub echo: EchoServer,
    /// Command-line options that reproduce the impairment, if replies are impaired.
    pub reproduce_options: Option<String>,
    pub outcome_log: Option<OutcomeLogFile>,
}

/// An outcome log being written.
pub(crate) struct OutcomeLogFile {
    log: OutcomeLog,
    /// Number of rows that could not be written.
    pub dropped: Arc<Counter>,
    path: OutputFile,
}

impl ImpairmentArgs {
    /// Creates the server and opens the outcome log.
    pub(crate) fn prepare(&self, config: EchoConfig) -> Result<PreparedEcho, Failure> {
        let impairment = self.impairment();
        let impaired = impairment != Impairment { seed: impairment.seed, ..Impairment::default() };
        ensure_usage!(
            self.seed.is_none() || impaired,
            "--seed has no effect without impairment; add --loss or another impairment option"
        );
        let reproduce_options = impaired.then(|| self.as_options(impairment.seed));
        let Some(path) = &self.outcome_log else {
            let echo = if impaired {
                EchoServer::with_impairment(config, impairment, Box::new(()))
            } else {
                EchoServer::new(config)
            };
            return Ok(PreparedEcho { echo, reproduce_options, outcome_log: None });
        };
        let (queue, log) = outcome_log::spawn(path, outcome_log::MAX_BYTES)
            .with_context(|| format!("cannot write the outcome log to {}", path.display()))?;
        let outcome_log = Some(OutcomeLogFile { log, dropped: Arc::clone(&queue.dropped), path: path.clone() });
        let echo = EchoServer::with_impairment(config, impairment, Box::new(queue));
        Ok(PreparedEcho { echo, reproduce_options, outcome_log })
    }

    /// Creates the server that impairs sent AUDIO by echoing it to the target. `None` if no option asks for impairment or an outcome log.
    pub(crate) fn prepare_path(&self) -> Result<Option<PreparedEcho>, Failure> {
        let admission = AdmissionConfig { max_packet_rate: None, max_bit_rate: None, ..AdmissionConfig::default() };
        let (delay, buffer_limits) = (Duration::ZERO, BufferLimits::with_total(None));
        let prepared = self.prepare(EchoConfig { delay, buffer_limits, admission, ..EchoConfig::default() })?;
        Ok(Some(prepared).filter(|path| path.reproduce_options.is_some() || path.outcome_log.is_some()))
    }

    fn impairment(&self) -> Impairment {
        let (loss, burst_loss) = self.loss.unwrap_or_default();
        let (reorder, reorder_delay) = self.reorder.unwrap_or((0.0, DEFAULT_REORDER_DELAY));
        let [random] = os::random_u64s();
        Impairment {
            loss,
            burst_loss,
            dropped_sequences: self.drop_packets.clone().unwrap_or_default(),
            jitter: self.jitter.unwrap_or_default(),
            reorder,
            reorder_delay,
            duplicate: self.duplicate.unwrap_or_default(),
            bandwidth: self.bandwidth,
            // A random seed is short enough to type.
            seed: self.seed.unwrap_or(random % 1_000_000_000),
        }
    }

    /// The options as a user would type them on a command line.
    fn as_options(&self, seed: u64) -> String {
        let with_delay = |value: String, delay| format!("{value},{}", format_duration(delay));
        let loss = self.loss.map(|loss| match loss {
            (ratio, None) => format_percent(ratio),
            (_, Some(model)) => <[f64; 2]>::from(model.probabilities()).map(format_percent).join(","),
        });
        let bandwidth = self.bandwidth.map(|limit| (format_bit_rate(limit.bits_per_second), limit.max_queue_delay));
        let given = [
            ("loss", loss),
            ("drop-packets", self.drop_packets.as_ref().map(ToString::to_string)),
            ("jitter", self.jitter.map(format_duration)),
            ("reorder", self.reorder.map(|(ratio, delay)| with_delay(format_percent(ratio), delay))),
            ("duplicate", self.duplicate.map(format_percent)),
            ("bandwidth", bandwidth.map(|(rate, delay)| with_delay(rate, delay))),
            ("seed", Some(seed.to_string())),
        ];
        given.into_iter().filter_map(|(name, value)| Some(format!("--{name} {}", value?))).collect::<Vec<_>>().join(" ")
    }
}

impl OutcomeLogFile {
    /// Waits until all rows are written. The echo server must be dropped first; otherwise, this never returns.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let result = self.log.join();
        if let dropped @ 1.. = self.dropped.get() {
            print_notice(&format!(
                "{dropped} rows are missing from the outcome log: the log reached {} GiB, or the disk was too slow or failed",
                outcome_log::MAX_BYTES >> 30
            ));
        }
        result.with_context(|| format!("cannot write the outcome log to {}", self.path.display()))
    }
}

/// The ratio of random loss, and the model of loss in bursts.
type LossArg = (f64, Option<GilbertModel>);

fn parse_loss(text: &str) -> anyhow::Result<LossArg> {
    Ok(match text.split_once(',') {
        Some((start, end)) => (0.0, Some(GilbertModel::new(parse_ratio(start)?, parse_ratio(end)?)?)),
        None => (parse_ratio(text)?, None),
    })
}

/// Parses the ratio of reordered replies, and the time for which they are held back.
fn parse_reorder(text: &str) -> anyhow::Result<(f64, Duration)> {
    let (ratio, delay) = split_duration(text, DEFAULT_REORDER_DELAY)?;
    ensure!(!delay.is_zero(), "a duration of 0 reorders nothing; give a duration such as 10ms");
    Ok((parse_ratio(ratio)?, delay))
}

/// Parses a bit rate and the maximum queue delay.
fn parse_bandwidth(text: &str) -> anyhow::Result<BandwidthLimit> {
    let (rate, max_queue_delay) = split_duration(text, DEFAULT_MAX_QUEUE_DELAY)?;
    let bits_per_second = parse_bit_rate(rate)?;
    ensure!(bits_per_second > 0, "0 would block all replies; give a bit rate such as 2Mbit");
    Ok(BandwidthLimit { bits_per_second, max_queue_delay })
}

/// Splits `VALUE` or `VALUE,TIME`.
fn split_duration(text: &str, otherwise: Duration) -> Result<(&str, Duration), InvalidValue> {
    let Some((value, time)) = text.split_once(',') else { return Ok((text, otherwise)) };
    Ok((value, parse_millis(time)?))
}

/// A ratio as a percentage, without the rounding errors of binary fractions.
fn format_percent(ratio: f64) -> String {
    format!("{}%", (ratio * 1e12).round() / 1e10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        impairment: ImpairmentArgs,
    }

    fn parse(line: &str) -> ImpairmentArgs {
        Options::parse_from(["x"].into_iter().chain(line.split_whitespace())).impairment
    }

    #[test]
    fn every_option_sets_its_field() {
        let line = "--loss 2%,30% --drop-packets 10,20-25 --jitter 5ms --reorder 0.5% --duplicate 0.1% \
                    --bandwidth 2Mbit --seed 7";
        let expected = Impairment {
            loss: 0.0,
            burst_loss: Some(GilbertModel::new(0.02, 0.3).expect("a model")),
            dropped_sequences: "10,20-25".parse().expect("a set"),
            jitter: Duration::from_millis(5),
            reorder: 0.005,
            reorder_delay: Duration::from_millis(10),
            duplicate: 0.001,
            bandwidth: Some(BandwidthLimit { bits_per_second: 2_000_000, max_queue_delay: Duration::from_millis(250) }),
            seed: 7,
        };
        assert_eq!(parse(line).impairment(), expected);
        let impairment = parse("--loss 1%").impairment();
        assert_eq!((impairment.loss, impairment.burst_loss), (0.01, None));
        let impairment = parse("--reorder 1%,20ms --bandwidth 500kbit,1s").impairment();
        assert_eq!((impairment.reorder, impairment.reorder_delay), (0.01, Duration::from_millis(20)));
        let bandwidth = BandwidthLimit { bits_per_second: 500_000, max_queue_delay: Duration::from_secs(1) };
        assert_eq!(impairment.bandwidth, Some(bandwidth));
    }

    #[test]
    fn printed_options_reproduce_the_impairment() {
        for line in [
            "--loss 1% --seed 7",
            "--loss 0.1% --duplicate 33.3% --seed 18446744073709551615",
            "--loss 0.07%,12.5% --drop-packets 20-25,10 --seed 1",
            "--jitter 250us --reorder 0.3%,1s --bandwidth 1.5Mbit,0 --seed 0",
        ] {
            let first = parse(line);
            let repeated = parse(&first.as_options(first.impairment().seed));
            assert_eq!(repeated.impairment(), first.impairment(), "{line}");
        }
        assert_eq!(parse("--loss 1%").as_options(7), "--loss 1% --seed 7");
        // Without --seed, the seed is random.
        let random = parse("--loss 1%").impairment().seed;
        assert_ne!(random, parse("--loss 1%").impairment().seed);
    }

    #[test]
    fn network_stands_for_its_options_and_given_options_replace_them() {
        for (network, options) in NETWORKS {
            let preset = parse(&format!("--network {network} --seed 7"));
            assert_eq!(preset.as_options(7), format!("{options} --seed 7"), "{network}");
            assert_eq!(preset.impairment(), parse(&preset.as_options(7)).impairment(), "{network}");
            assert_ne!(preset.impairment(), Impairment { seed: 7, ..Impairment::default() }, "{network}");
        }
        let replaced = parse("--network wifi --loss 3% --reorder 1%").as_options(7);
        assert_eq!(replaced, "--loss 3% --jitter 4ms --reorder 1%,10ms --bandwidth 100mbit,16ms --seed 7");
        // The network may come after the options that replace its values.
        assert_eq!(parse("--jitter 0 --network lan").impairment().jitter, Duration::ZERO);
    }

    #[test]
    fn no_options_means_no_impairment() {
        let prepared = parse("").prepare(EchoConfig::default()).map_err(|failure| failure.error).expect("no file");
        assert!(prepared.reproduce_options.is_none() && prepared.outcome_log.is_none());
    }
}
