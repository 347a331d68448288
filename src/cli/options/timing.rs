//! How long a client waits: for a server that starts, for a connection, and for replies.

use std::time::Duration;

use crate::cli::values::parse_seconds;

const HEADING: &str = "Timing";

/// Default maximum wait for missing replies.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// Minimum of `--timeout` as the maximum time to connect.
const MIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Default, clap::Args)]
pub(crate) struct TimingArgs {
    /// Wait up to this long for the first reply
    ///
    /// Nothing is counted before the first reply.
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = parse_seconds, help_heading = HEADING)]
    pub wait_for: Option<Duration>,

    #[command(flatten)]
    pub reply: TimeoutArgs,
}

#[derive(Clone, Copy, Default, clap::Args)]
pub(crate) struct TimeoutArgs {
    /// Wait this long for missing replies [default: 2s]
    ///
    /// The time begins when the reply is expected: one smallest round-trip time after sending. Without --wait-for, this option also limits
    /// the time to connect over WebSocket and MOQT, or with --link (at least 1 s; default: 5 s).
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = parse_seconds, help_heading = HEADING)]
    timeout: Option<Duration>,
}

impl TimeoutArgs {
    /// Maximum wait for missing replies.
    pub(crate) fn timeout(self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// These time-outs of a client that does not wait for its server.
    pub(crate) fn without_wait(self) -> TimingArgs {
        TimingArgs { wait_for: None, reply: self }
    }
}

impl TimingArgs {
    /// Maximum wait for missing replies.
    pub(crate) fn timeout(self) -> Duration {
        self.reply.timeout()
    }

    /// Maximum time to connect, if the user gave one. A time-out for replies may be shorter than the several round trips of a connection
    /// setup.
    pub(crate) fn connect_timeout(self) -> Option<Duration> {
        self.wait_for.or(self.reply.timeout.map(|timeout| timeout.max(MIN_CONNECT_TIMEOUT)))
    }
}
