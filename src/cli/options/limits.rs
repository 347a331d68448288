//! Limits of a run, which decide about its exit code.

use std::time::Duration;

use crate::cli::values::{parse_millis, profile_parser};
use crate::report::limits::{Limits, Profile};
use crate::units::parse_ratio;

const HEADING: &str = "Limits (exit code 1 if one is exceeded)";

#[derive(clap::Args)]
pub(crate) struct LimitArgs {
    #[command(flatten)]
    round_trip: RoundTripLimitArgs,

    /// Maximum mean jitter
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = parse_millis, help_heading = HEADING)]
    max_jitter: Option<Duration>,
}

/// The limits on what also messages in rooms have.
#[derive(clap::Args)]
pub(crate) struct RoundTripLimitArgs {
    /// Limits of lan-music, internet-music or voice
    ///
    /// lan-music: loss 0.1%, p50 2ms, p99 4ms. internet-music: loss 1%, p50 23ms, p99 34ms. voice: loss 3%, p50 200ms, p99 250ms. The options
    /// --max-loss, --max-p50 and --max-p99 override the profile.
    #[arg(long, value_name = "PROFILE", value_parser = profile_parser(), help_heading = HEADING)]
    profile: Option<Profile>,

    /// Maximum packet loss, such as 0.5%
    #[arg(long, value_name = "PERCENT", value_parser = parse_ratio, help_heading = HEADING)]
    max_loss: Option<f64>,

    /// Maximum median round-trip time
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = parse_millis, help_heading = HEADING)]
    max_p50: Option<Duration>,

    /// Maximum 99th percentile of the round-trip time
    #[arg(long, value_name = "DURATION", value_parser = parse_millis, help_heading = HEADING)]
    max_p99: Option<Duration>,
}

impl LimitArgs {
    pub(crate) fn limits(&self) -> Limits {
        Limits { max_jitter: self.max_jitter, ..Limits::default() }.or(self.round_trip.limits())
    }
}

impl RoundTripLimitArgs {
    pub(crate) fn limits(&self) -> Limits {
        let Self { max_loss, max_p50, max_p99, profile } = *self;
        let given = Limits { profile: None, max_loss, max_p50, max_p99, max_jitter: None };
        given.or(profile.map_or_else(Limits::default, Profile::limits))
    }
}
