//! The configuration of a run.

use std::net::SocketAddr;
use std::time::Duration;

use super::stream_kind::StreamKind;

/// Number of blocks in [`RunConfig::blocks_of`].
pub const BLOCKS: usize = 10;

/// Configuration of a run.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// Address of the server. Datagrams from other addresses count as stray, unless the workload accepts them.
    pub peer: SocketAddr,
    /// The stream whose results are checked against the limits and shown in the live view.
    pub evaluated_stream: StreamKind,
    /// Configured delay of the server for AUDIO, if given.
    pub server_delay: Option<Duration>,
    /// Before the first echo arrives, an AUDIO packet times out after this time plus `timeout`.
    pub first_echo_timeout: Duration,
    /// Time-out of a packet. Once the stream has received a reply, the stream's minimum RTT is added.
    pub timeout: Duration,
    /// Whether replies are expected.
    pub replies_expected: bool,
    /// Maximum time to wait for the server before counting starts; `None` to start immediately.
    pub wait_for: Option<Duration>,
    /// Random bits for the transaction IDs of the queries to the server; `None` to send none.
    pub loss_report_nonce: Option<u128>,
    /// `--loss-direction`: counting starts only after the first query, and the results contain the counts of the server.
    pub loss_direction: bool,
    /// Divides this number of packets of the evaluated stream into [`BLOCKS`] equal blocks: the
    /// [`StreamStats::blocks`](jamjam_core::stats::StreamStats::blocks) of the results.
    pub blocks_of: Option<u64>,
    /// How much later the client begins, so that the packets of several clients do not leave at the same time.
    pub start_delay: Duration,
    /// Whether the client records in the [`SharedRecord`](super::SharedRecord) of a group. Such a client keeps a packet only until ten seconds
    /// after its time-out.
    pub shares_record: bool,
}

impl RunConfig {
    /// A run that expects replies. It starts at once and sends no queries.
    pub fn new(peer: SocketAddr, evaluated_stream: StreamKind, timeout: Duration) -> Self {
        Self {
            peer,
            evaluated_stream,
            server_delay: None,
            first_echo_timeout: Duration::ZERO,
            timeout,
            replies_expected: true,
            wait_for: None,
            loss_report_nonce: None,
            loss_direction: false,
            blocks_of: None,
            start_delay: Duration::ZERO,
            shares_record: false,
        }
    }
}
