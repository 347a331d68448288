//! The sender and the prober in virtual time.

mod dead_port;
mod link;
mod link_cost;
mod link_life;
mod live_figures;
mod loss_report;
mod moqt;
mod pauses;
mod prober;
mod sender;
mod wait_for;

use std::time::Duration;

use jamjam_measure::client::{RunConfig, StreamKind};
use test_support::node_driver::peer;

/// A run configuration with a timeout of two seconds and expected replies. All other fields have their defaults.
pub(crate) fn run_config(evaluated_stream: StreamKind) -> RunConfig {
    RunConfig {
        peer: peer(),
        evaluated_stream,
        server_delay: None,
        first_echo_timeout: Duration::from_secs(3),
        timeout: Duration::from_secs(2),
        replies_expected: true,
        wait_for: None,
        loss_report_nonce: None,
        loss_direction: false,
    }
}
