//! Several clients that ran at the same time: their merged results, and the worst of them.

use super::figures::StreamFigures;
use super::limits::{Limits, judgments};
use super::quantities::{RoundTrip, micros};
use crate::client::{ClientsResults, RunResults};
use crate::document::Outcome;
use crate::document::column::figures;
use jamjam_core::stats::{Histogram, StreamStats};

/// The results of a run with several clients: those of all clients merged; `None` without a client. Each client has its number of bytes. The
/// worst client is one that fails; among equals the one with the highest loss, and then with the highest 99th percentile of the round trip.
pub fn merge_clients(clients: impl Iterator<Item = (RunResults, usize)>, limits: &Limits) -> Option<RunResults> {
    let (mut merged, mut all, mut worst_rank): (Option<RunResults>, _, _) = (None, ClientsResults::default(), None);
    for (run, bytes) in clients {
        let verdict = Outcome::of(&judgments(&run, limits)).result;
        let loss = run.evaluated().and_then(StreamStats::loss_ratio).unwrap_or(1.0);
        let p99 = RoundTrip::of(&run, run.evaluated_stream).and_then(|rtt| rtt.percentile(0.99).or(rtt.max()));
        let rank = Some((verdict, loss, p99));
        all.count += 1;
        all.bytes_per_flow = all.bytes_per_flow.max(bytes);
        all.without_link += usize::from(run.link.is_some_and(|link| link.failure.is_some()));
        all.without_report += usize::from(run.server.is_none());
        if rank > worst_rank {
            (worst_rank, all.worst) = (rank, (all.count, Box::new(run.clone())));
        }
        match &mut merged {
            Some(merged) => merged.merge(&run),
            None => merged = Some(run),
        }
    }
    let mut run = RunResults { clients: Some(all), ..merged? };
    // The samples are those of one client.
    run.loss_report.iter_mut().for_each(|report| report.samples.clear());
    Some(run)
}

figures! {
    /// The clients of a run with several.
    ClientsFigures from (run, clients): (&RunResults, &ClientsResults) [
        let (number, worst) = &clients.worst;
        let stream = worst.evaluated().map(|stream| (&**worst, worst.evaluated_stream, stream).into());
    ] {
        /// Number of clients; with --ramp, of those that began.
        @short count: usize = clients.count;
        /// The worst client: one that fails, or else the one with the highest loss, and then with the highest 99th percentile of the round
        /// trip. Its figures are as for streams.
        worst: Option<WorstClientFigures> = stream.map(|stream| (*number, stream).into());
        /// Memory of a client at the end of the run, for its packets and statistics, in bytes: the largest of all clients.
        @short bytes_per_flow: usize = clients.bytes_per_flow;
        /// Send time minus due time of the packets of all clients.
        lateness: Option<LatenessFigures> = run.pacing.as_ref().map(|pacing| (&pacing.all).into());
    }

    /// The worst of several clients.
    WorstClientFigures from (number, stream): (usize, StreamFigures) {
        /// Number of the client, from 1.
        @short number: usize = number;
        /// As for streams.
        sent: u64 = stream.sent;
        /// As for streams.
        returned: u64 = stream.returned;
        /// As for streams.
        lost: u64 = stream.lost;
        /// As for streams.
        @short loss_ratio: Option<f64> = stream.loss_ratio;
        /// As for streams.
        @short rtt_p50_us: Option<f64> = stream.rtt_p50_us;
        /// As for streams.
        @short rtt_p99_us: Option<f64> = stream.rtt_p99_us;
        /// As for streams.
        jitter_mean_us: Option<f64> = stream.jitter_mean_us;
    }

    /// How late the packets of all clients left this host.
    LatenessFigures from lateness: &Histogram {
        /// Median.
        p50_us: Option<f64> = lateness.percentile_if_enough(0.5).map(micros);
        /// 99th percentile; above 1 ms, this host is at its limit.
        @short p99_us: Option<f64> = lateness.percentile_if_enough(0.99).map(micros);
        /// Maximum.
        max_us: Option<f64> = lateness.max().map(micros);
    }
}
