//! Impairment options of echo servers and relays, and the outcome log. The options are printed as a user would type
//! them, so that a random run can be repeated.

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Arg;
use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::cli::file_arguments::{InputFile, OutputFile, output_file_parser};
use crate::cli::output::{Failure, ensure_usage, print_notice};
use crate::cli::replay::read_record;
use crate::impairment::{BandwidthLimit, Impairment, Outages, SequenceSet};
use crate::impairment_patch::{ImpairmentPatch, Loss, Milliseconds, NETWORKS, Ratio, Reorder};
use crate::io::os;
use crate::io::outcome_log::{self, OutcomeLog};
use crate::outcome::{ObservedImpairment, OutcomeObserver};
use crate::recorded_path::RecordedPath;
use crate::stats::Counter;
use crate::time::display_seconds;
use crate::units::InvalidValue;

pub(crate) const HEADING: &str = "Impairment (of the replies of an echo server, and of relayed datagrams)";

/// Parser for `--network`. Each network comes with its options for the man page and the documentation.
fn network_parser() -> PossibleValuesParser {
    NETWORKS.map(|(network, options, _)| PossibleValue::new(network).help(options)).into()
}

/// An option of this heading in a command that impairs the replies of its embedded server only.
pub(crate) fn of_embedded_server(argument: Arg) -> Arg {
    argument.hide_short_help(true).requires("embedded").conflicts_with("room")
}

/// Checks the value of an option. Returns its text, without spaces.
fn text<T: FromStr<Err = InvalidValue>>(text: &str) -> Result<String, InvalidValue> {
    text.parse::<T>().map(|_| text.split_whitespace().collect())
}

/// Impairment of replies, or of relayed datagrams.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct ImpairmentArgs {
    /// Imitate a network, such as wifi, lte or satellite
    ///
    /// Given options replace those of the network. Only `relay` and `signaling-server` also delay by its delay.
    #[arg(long, value_name = "NAME", value_parser = network_parser(), help_heading = HEADING)]
    network: Option<String>,

    /// Drop packets at random (1%) or in bursts (1%,30%)
    ///
    /// The second percentage selects the Gilbert model: the first one is the probability that a burst starts at a packet, and the second one
    /// that the burst ends at a packet.
    #[arg(long, value_name = "PERCENT[,PERCENT]", value_parser = text::<Loss>, help_heading = HEADING)]
    loss: Option<String>,

    /// Drop AUDIO packets by sequence number, such as 10,20-25
    #[arg(long, hide_short_help = true, value_name = "LIST", value_parser = text::<SequenceSet>, help_heading = HEADING)]
    drop_packets: Option<String>,

    /// Drop everything for a time, such as 5s@30s or 5s@60s/60s
    ///
    /// LENGTH@START counts from the first AUDIO, in a relay from the first datagram, and repeats after each PERIOD. Several are separated by
    /// commas. What has arrived before still leaves.
    #[arg(long, hide_short_help = true, value_name = "LENGTH@START[/PERIOD]", value_parser = text::<Outages>, help_heading = HEADING)]
    outage: Option<String>,

    /// Drop and delay like a run recorded by --record-run
    ///
    /// AUDIO is lost if the recorded packet of its sequence number was. Of its round trip, each of two directions has half as its delay; where only
    /// one direction is impaired, it is what exceeds the minimum. The record repeats.
    #[arg(long, hide_short_help = true, value_name = "FILE", help_heading = HEADING)]
    like: Option<InputFile>,

    /// Delay packets by up to this time, in order
    #[arg(long, value_name = "DURATION", value_parser = text::<Milliseconds>, help_heading = HEADING)]
    jitter: Option<String>,

    /// Hold back packets so that later ones overtake them
    ///
    /// Packets are held back by 10ms, or by DURATION if given, and then until a later one has left, at most 1s or DURATION.
    #[arg(long, hide_short_help = true, value_name = "PERCENT[,DURATION]", value_parser = text::<Reorder>, help_heading = HEADING)]
    reorder: Option<String>,

    /// Send this share of the packets twice, at random
    #[arg(long, hide_short_help = true, value_name = "PERCENT", value_parser = text::<Ratio>, help_heading = HEADING)]
    duplicate: Option<String>,

    /// Limit the bit rate, such as 2Mbit
    ///
    /// Excess packets wait in a queue for up to 250ms, or up to DURATION if given. Packets that would wait longer are dropped.
    #[arg(long, value_name = "BITRATE[,DURATION]", value_parser = text::<BandwidthLimit>, help_heading = HEADING)]
    bandwidth: Option<String>,

    /// Seed; the same seed repeats the impairment [default: random, printed]
    #[arg(long, hide_short_help = true, value_name = "N", help_heading = HEADING)]
    seed: Option<u64>,

    /// Write the outcome of each packet to this CSV file
    #[arg(long, hide_short_help = true, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING)]
    outcome_log: Option<OutputFile>,
}

/// The impairment of `relay` and `signaling-server`, which also delay.
#[derive(clap::Args, Clone)]
pub(crate) struct PathArgs {
    #[command(flatten)]
    pub(crate) impairment: ImpairmentArgs,

    /// Delay every datagram by this time, one way
    #[arg(long, value_name = "DURATION", value_parser = text::<Milliseconds>, help_heading = HEADING)]
    delay: Option<String>,
}

impl PathArgs {
    /// The options without seed and recorded path.
    pub(crate) fn patch(&self) -> Result<ImpairmentPatch, Failure> {
        self.impairment.patch(self.delay.as_deref())
    }

    /// The impairment that these options describe.
    pub(crate) fn impairment(&self) -> Result<Impairment, Failure> {
        self.impairment.with_record(self.patch()?.impairment())
    }

    /// The impairment with the words of an option ("loss 1%,40% delay 10ms") in place of the same ones of these options. Seed and recorded path
    /// are those of `base`, which [`PathArgs::impairment`] has returned.
    pub(crate) fn with(&self, base: &Impairment, (option, words): (&str, &str)) -> Result<Impairment, Failure> {
        let words = ImpairmentPatch::from_words(words);
        let words = words.map_err(|error| Failure::usage(format_args!("{option}: {error}")))?;
        let Impairment { seed, recorded, .. } = base.clone();
        Ok(Impairment { seed, recorded, ..words.over(self.patch()?).impairment() })
    }
}

/// What receives the outcomes, and the log that it writes.
type OpenOutcomeLog<R> = (OutcomeObserver<R>, Option<OutcomeLogFile>);

/// The impairment if packets are impaired or their outcomes are logged, the options that reproduce it if they are impaired, and the outcome
/// log.
pub(crate) type Prepared = (Option<ObservedImpairment>, Option<String>, Option<OutcomeLogFile>);

/// An outcome log being written.
pub(crate) struct OutcomeLogFile {
    log: OutcomeLog,
    /// Number of rows that could not be written.
    pub dropped: Arc<Counter>,
    path: OutputFile,
}

/// Options that have been checked.
pub(crate) struct CheckedImpairment {
    args: ImpairmentArgs,
    impairment: Impairment,
    is_impaired: bool,
}

impl CheckedImpairment {
    /// The seed that repeats the impairment, if there is any.
    pub(crate) fn seed(&self) -> Option<u64> {
        self.is_impaired.then_some(self.impairment.seed)
    }

    /// Opens the outcome log.
    pub(crate) fn open(&self) -> Result<Prepared, Failure> {
        let reproduce_options = self.is_impaired.then(|| self.args.as_options(self.impairment.seed));
        let (observer, outcome_log) = self.args.open_outcome_log("client")?;
        let is_used = self.is_impaired || outcome_log.is_some();
        let used = is_used.then(|| (self.impairment.clone(), observer));
        Ok((used, reproduce_options, outcome_log))
    }
}

impl ImpairmentArgs {
    /// Whether packets are dropped by their sequence numbers, which only AUDIO has.
    pub(crate) fn needs_audio(&self) -> bool {
        self.drop_packets.is_some()
    }

    /// Checks the options, before the run touches any file.
    pub(crate) fn checked(&self) -> Result<CheckedImpairment, Failure> {
        let impairment = self.impairment()?;
        let is_impaired = impairment != Impairment { seed: impairment.seed, ..Impairment::default() };
        ensure_usage!(self.seed.is_none() || is_impaired, "--seed has no effect without impairment, such as --loss 1%");
        Ok(CheckedImpairment { args: self.clone(), impairment, is_impaired })
    }

    /// Creates the outcome log, if there is one. `route` names its columns of where a packet comes from and goes to.
    pub(crate) fn open_outcome_log<R: Display + Clone + Send + 'static>(
        &self,
        route: &str,
    ) -> Result<OpenOutcomeLog<R>, Failure> {
        let Some(path) = &self.outcome_log else { return Ok((Box::new(|_| {}), None)) };
        let (observer, dropped, log) = outcome_log::spawn(path, route, outcome_log::MAX_BYTES)
            .with_context(|| format!("cannot write the outcome log to {}", path.display()))?;
        Ok((observer, Some(OutcomeLogFile { log, dropped, path: path.clone() })))
    }

    /// The impairment that these options describe, without the delay of the network.
    fn impairment(&self) -> Result<Impairment, Failure> {
        self.with_record(Impairment { delay: Duration::ZERO, ..self.patch(None)?.impairment() })
    }

    /// This impairment with a seed and the recorded path.
    fn with_record(&self, impairment: Impairment) -> Result<Impairment, Failure> {
        let [random] = os::random_u64s();
        // A random seed is short enough to type.
        let seed = self.seed.unwrap_or(random % 1_000_000_000);
        let recorded = self.like.as_deref().map(|file| read_path(file, seed)).transpose()?;
        Ok(Impairment { seed, recorded, ..impairment })
    }

    /// The given options with a value of [`ImpairmentPatch`].
    fn given(&self) -> [(&'static str, Option<&str>); 8] {
        [
            ("network", self.network.as_deref()),
            ("loss", self.loss.as_deref()),
            ("drop-packets", self.drop_packets.as_deref()),
            ("outage", self.outage.as_deref()),
            ("jitter", self.jitter.as_deref()),
            ("reorder", self.reorder.as_deref()),
            ("duplicate", self.duplicate.as_deref()),
            ("bandwidth", self.bandwidth.as_deref()),
        ]
    }

    fn patch(&self, delay: Option<&str>) -> Result<ImpairmentPatch, Failure> {
        let given = self.given().into_iter().chain([("delay", delay)]);
        let given = given.filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
        ImpairmentPatch::new(given).map_err(Failure::usage)
    }

    /// The options as a user would type them on a command line, with those of the network.
    fn as_options(&self, seed: u64) -> String {
        let ([(_, network), given @ ..], seed) = (self.given(), seed.to_string());
        let network = NETWORKS.iter().find(|(name, ..)| Some(*name) == network).map_or("", |(_, words, _)| words);
        let of_network =
            |name: &str| network.split(' ').skip_while(|word| word.strip_prefix("--") != Some(name)).nth(1);
        let given = given.into_iter().map(|(name, value)| (name, value.or_else(|| of_network(name))));
        let like = self.like.as_deref().and_then(Path::file_name).and_then(OsStr::to_str);
        let all = given.chain([("like", like), ("seed", Some(&*seed))]);
        all.filter_map(|(name, value)| Some(format!("--{name} {}", value?))).collect::<Vec<_>>().join(" ")
    }
}

/// Reads the path that a run has recorded, and prints what to know about it.
fn read_path(file: &Path, seed: u64) -> Result<Arc<RecordedPath>, Failure> {
    let record = read_record(file).with_context(|| format!("--like: cannot read the run from {}", file.display()))?;
    let (path, is_delay_known) =
        record.path(seed).map_err(|reason| Failure::usage(format_args!("--like {}: {reason}", file.display())))?;
    let (length, rate) = (display_seconds(path.length()), path.rate());
    print_notice(&format!("--like: the record has {length} s and repeats; it has {rate:.0} packets/s"));
    if !is_delay_known {
        print_notice("--like: the server's delay is unknown; delay is what exceeds the fastest round trip");
    }
    Ok(Arc::new(path))
}

impl OutcomeLogFile {
    /// Waits until all rows are written. What reports outcomes must be dropped first; otherwise, this never returns.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impairment::GilbertModel;
    use clap::Parser;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        path: PathArgs,
    }

    fn parse(line: &str) -> ImpairmentArgs {
        Options::parse_from(["x"].into_iter().chain(line.split_whitespace())).path.impairment
    }

    fn impairment(line: &str) -> Impairment {
        parse(line).impairment().expect("valid options")
    }

    #[test]
    fn every_option_sets_its_field() {
        let line = "--loss 2%,30% --drop-packets 10,20-25 --jitter 5ms --reorder 0.5% --duplicate 0.1% \
                    --bandwidth 2Mbit --outage 5s@30s,1s@60s/10s --seed 7";
        let expected = Impairment {
            burst_loss: Some(GilbertModel::new(0.02, 0.3).expect("a model")),
            dropped_sequences: "10,20-25".parse().expect("a set"),
            outages: "5s@30s,1s@60s/10s".parse().expect("outages"),
            jitter: Duration::from_millis(5),
            reorder: Some((0.005, Duration::from_millis(10))),
            duplicate: 0.001,
            bandwidth: Some(BandwidthLimit { bits_per_second: 2_000_000, max_queue_delay: Duration::from_millis(250) }),
            seed: 7,
            ..Impairment::default()
        };
        assert_eq!(impairment(line), expected);
        let given = impairment("--loss 1%");
        assert_eq!((given.loss, given.burst_loss), (0.01, None));
        let given = impairment("--reorder 1%,20ms --bandwidth 500kbit,1s");
        assert_eq!(given.reorder, Some((0.01, Duration::from_millis(20))));
        let bandwidth = BandwidthLimit { bits_per_second: 500_000, max_queue_delay: Duration::from_secs(1) };
        assert_eq!(given.bandwidth, Some(bandwidth));
    }

    #[test]
    fn printed_options_reproduce_the_impairment() {
        for line in [
            "--loss 1% --seed 7",
            "--loss 0.1% --duplicate 33.3% --seed 18446744073709551615",
            "--loss 0.07%,12.5% --drop-packets 20-25,10 --seed 1",
            "--jitter 250us --reorder 0.3%,1s --bandwidth 1.5Mbit,0 --seed 0",
            "--outage 1500ms@0s,5s@1m/1h --seed 2",
        ] {
            let first = impairment(line);
            assert_eq!(impairment(&parse(line).as_options(first.seed)), first, "{line}");
        }
        assert_eq!(parse("--loss 1%").as_options(7), "--loss 1% --seed 7");
        // Without --seed, the seed is random.
        let random = impairment("--loss 1%").seed;
        assert_ne!(random, impairment("--loss 1%").seed);
    }

    #[test]
    fn network_stands_for_its_options_and_given_options_replace_them() {
        for (network, options, delay) in NETWORKS {
            let preset = parse(&format!("--network {network} --seed 7"));
            assert_eq!(preset.as_options(7), format!("{options} --seed 7"), "{network}");
            let preset = impairment(&format!("--network {network} --seed 7"));
            assert_eq!(preset, impairment(&format!("{options} --seed 7")), "{network}");
            assert_ne!(preset, Impairment { seed: 7, ..Impairment::default() }, "{network}");
            let delayed = Options::parse_from(["x", "--network", network, "--seed", "7"]).path.impairment();
            assert_eq!(delayed.expect("valid options"), Impairment { delay, ..preset }, "{network}");
        }
        let replaced = parse("--network wifi --loss 3% --reorder 1%").as_options(7);
        assert_eq!(replaced, "--loss 3% --jitter 4ms --reorder 1% --bandwidth 100mbit,16ms --seed 7");
        // The network may come after the options that replace its values.
        assert_eq!(impairment("--jitter 0 --network lan").jitter, Duration::ZERO);
    }

    #[test]
    fn words_of_a_direction_replace_the_same_options_only() {
        let with = |line: &str, words: &str| {
            let options = Options::parse_from(["x"].into_iter().chain(line.split_whitespace()));
            let base = options.path.impairment().expect("valid options");
            options.path.with(&base, ("--up", words)).map_err(|failure| (failure.code, failure.error.to_string()))
        };
        let plain = "--loss 3% --delay 20 --outage 5s@30s --seed 7";
        let both = impairment(plain.replace("--delay 20 ", "").as_str());
        let delay = Duration::from_millis(20);
        assert_eq!(with(plain, ""), Ok(Impairment { delay, ..both.clone() }));
        let delay = Duration::from_millis(30);
        let replaced = Impairment { loss: 0.01, delay, jitter: Duration::from_millis(4), ..both.clone() };
        assert_eq!(with(plain, " loss 1%  jitter 4ms delay 30ms"), Ok(replaced));
        // Given options replace those of a network, and another network replaces the whole one.
        let delay = Duration::from_millis(20);
        assert_eq!(
            with("--network wifi --seed 7", "network dsl"),
            Ok(Impairment { delay, ..impairment("--network dsl --seed 7") })
        );
        assert_eq!(with("--network wifi --loss 3% --seed 7", "network lan").map(|up| up.loss), Ok(0.03));
        let fields = "expected one of `network`, `loss`, `drop-packets`, `outage`, `delay`, `jitter`, `reorder`, `duplicate`, `bandwidth`";
        let form = "give names without dashes and their values, such as \"loss 1% delay 30ms\"";
        for (words, reason) in [
            ("seed 8", format!("seed: unknown field `seed`, {fields}")),
            ("loss 1% like a.jsonl", format!("like: unknown field `like`, {fields}")),
            ("help", form.to_owned()),
            ("loss=1%", form.to_owned()),
            ("--loss 1%", form.to_owned()),
            ("loss 1% delay", form.to_owned()),
            ("loss 1% loss 2%", "loss is given twice".to_owned()),
            ("jitter 1x", "jitter: unknown unit `x`; expected ns, us, ms, s, m or h".to_owned()),
        ] {
            assert_eq!(with("--seed 1", words), Err((2, format!("--up: {reason}"))));
        }
    }

    #[test]
    fn directions_have_a_random_seed_in_common() {
        let options = Options::parse_from(["x", "--loss", "1%"]).path;
        let both = options.impairment().expect("valid options");
        assert_eq!(options.with(&both, ("--up", "loss 2%")).expect("valid options").seed, both.seed);
    }
}
