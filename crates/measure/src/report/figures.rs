//! The figures of the report under their JSON names. `rows` prints them.
//!
//! A time in microseconds has at most three decimals, and a figure without data is `null`. `docs/report.schema.json` describes each figure;
//! a test compares it with the structs.

use std::net::SocketAddr;

use super::quantities::{
    RoundTrip, RunProtocol, StreamLabels, micros, millis, rounded_micros, thousandths, unsigned_millis,
};
use crate::client::{AudioResults, LossReport, PauseResults, RunResults, ServerResults, StreamKind, WaitResult};
use crate::document::column::{figures, json_types};
use jamjam_core::stats::{
    AddressChange, BURST_LENGTH_BUCKETS, Histogram, HistogramBar, HostTiming, PacingStats, StreamStats,
};

/// Maximum number of bars in a round-trip histogram.
const MAX_HISTOGRAM_BARS: usize = 10;

figures! {
    /// Result of `--wait-for`.
    WaitFigures from wait: WaitResult {
        /// Time from the first attempt to the first reply, or to the end of the wait.
        @short waited_ms: f64 = unsigned_millis(wait.waited_ns);
        /// Whether a reply arrived.
        @short reply_received: bool = wait.reply_received;
    }

    /// Result of `--loss-direction`.
    LossReportFigures from report: &LossReport {
        /// Whether a loss report arrived.
        response_received: bool = report.response_received;
        /// Address and port from which the server received the packets of this client; null if unknown.
        @short mapped_address: Option<SocketAddr> = report.mapped_address;
    }

    /// One stream.
    StreamFigures from (run, kind, stream): (&RunResults, StreamKind, &StreamStats) [
        // Unknown if the server delay is unknown.
        let rtt = RoundTrip::of(run, kind);
        let [lost_upstream, lost_downstream] = run.lost_by_direction(kind).map_or([None; 2], |lost| lost.map(Some));
        let rtt_percentile = |p| rtt.and_then(|rtt| rtt.percentile(p)).map(micros);
        let pdv = |p| stream.pdv(p).map(micros);
        let ipdv = &stream.ipdv.magnitudes;
        let ipdv_percentile = |p| ipdv.percentile_if_enough(p).map(micros);
    ] {
        /// Type of the packets.
        @subject packets: &'static str = StreamLabels::new(RunProtocol::of_run(run), kind).request;
        /// Packets that the system accepted: `returned` + `damaged` + `lost` + `excluded` + `in_flight`.
        @short sent: u64 = stream.sent;
        /// Planned packets that the system refused to send.
        @problem not_sent: u64 = stream.not_sent;
        /// Packets of which an intact copy arrived, except for excluded ones.
        @short returned: u64 = stream.returned;
        /// Packets of which no copy arrived, except for excluded ones.
        @short lost: u64 = stream.lost;
        /// Packets lost before the server, as far as the direction is known; null if it is unknown or without --loss-direction.
        @short lost_upstream: Option<u64> = lost_upstream;
        /// Packets lost after the server, as far as the direction is known; null as above.
        @short lost_downstream: Option<u64> = lost_downstream;
        /// Packets that were in flight during a pause of this host or of the server, whether they returned or not. No other figure includes
        /// them, except that a damaged packet is always `damaged`.
        @problem excluded: u64 = stream.excluded;
        /// Packets of which only damaged copies arrived.
        @problem damaged: u64 = stream.damaged;
        /// Packets without an outcome at the end of the run.
        @problem in_flight: u64 = stream.in_flight;
        /// `lost` / (`returned` + `damaged` + `lost`) of the packets sent before the first packet in flight; a percentage in text reports.
        /// null without such packets.
        @short loss_ratio: Option<f64> = stream.loss_ratio();
        /// Datagrams that match an already returned packet.
        @problem duplicated: u64 = stream.duplicated;
        /// Damaged replies received before any intact reply to the same packet.
        @problem damaged_copies: u64 = stream.damaged_copies;
        /// Returned packets that arrived after a packet that was sent later (RFC 4737, section 3.3).
        @problem reordered: u64 = stream.reordered;
        /// Replies whose number matches no packet of the last 262,144.
        @problem unmatched: u64 = stream.unmatched;
        /// Number of round trips.
        rtt_count: u64 = rtt.map_or(0, |rtt| rtt.histogram.count());
        /// Smallest round trip. For AUDIO, round trips are echo times minus the server delay.
        @short rtt_min_us: Option<f64> = rtt.and_then(|rtt| rtt.min()).map(micros);
        /// Mean round trip.
        rtt_mean_us: Option<f64> = rtt.and_then(|rtt| rtt.mean()).map(rounded_micros);
        /// Median round trip.
        @short rtt_p50_us: Option<f64> = rtt_percentile(0.5);
        /// 90th percentile of the round trips.
        rtt_p90_us: Option<f64> = rtt_percentile(0.9);
        /// 99th percentile of the round trips.
        @short rtt_p99_us: Option<f64> = rtt_percentile(0.99);
        /// 99.9th percentile of the round trips.
        rtt_p999_us: Option<f64> = rtt_percentile(0.999);
        /// Largest round trip.
        @short rtt_max_us: Option<f64> = rtt.and_then(|rtt| rtt.max()).map(micros);
        /// At most 10 bars of equal width: 1, 2, 5, 10 and so on microseconds. The first bar contains the minimum; the last one contains p99 (with
        /// fewer than 100 values the maximum) and all larger values.
        @json rtt_histogram: Vec<HistogramBarFigures> =
            rtt.map_or_else(Vec::new, |rtt| rtt.histogram.bars(MAX_HISTOGRAM_BARS, rtt.offset).into_iter().map(Into::into).collect());
        /// Number of updates of the jitter estimate.
        jitter_count: u64 = stream.jitter.count;
        /// Mean of the jitter estimate (RFC 3550, section 6.4.1) over all updates.
        @short jitter_mean_us: Option<f64> = stream.jitter.mean().map(rounded_micros);
        /// Maximum of the jitter estimate.
        jitter_max_us: Option<f64> = stream.jitter.max().map(rounded_micros);
        /// Numbers of bursts (consecutive lost packets in sending order) of 1, 2, ... 9, and 10 or more packets.
        @page burst_lengths: [u64; BURST_LENGTH_BUCKETS] = stream.loss_bursts.lengths;
        /// Length of the longest burst, in packets.
        @problem burst_max: u64 = stream.loss_bursts.longest;
        /// `reordered` / `returned`; null if nothing returned.
        reordered_ratio: Option<f64> = stream.reordered_ratio();
        /// Mean extent of reordered packets (RFC 4737, section 4.2), in positions, at most three decimals.
        reorder_extent_mean: Option<f64> = stream.reorder_extent.mean().map(thousandths);
        /// Largest extent of reordered packets, in positions.
        reorder_extent_max: u64 = stream.reorder_extent.max().map_or(0, i64::cast_unsigned);
        /// Largest late time offset of reordered packets (RFC 4737, section 4.3).
        reorder_late_time_offset_max_us: Option<f64> = stream.reorder_late_time_offset.max().map(micros);
        /// Median of PDV: round trip minus the smallest round trip of the stream (RFC 5481, section 4.2).
        pdv_p50_us: Option<f64> = pdv(0.5);
        /// 99th percentile of PDV.
        pdv_p99_us: Option<f64> = pdv(0.99);
        /// 99.9th percentile of PDV.
        pdv_p999_us: Option<f64> = pdv(0.999);
        /// Largest PDV.
        pdv_max_us: Option<f64> = stream.max_pdv().map(micros);
        /// Number of IPDV values: pairs of consecutively sent packets that both returned.
        ipdv_count: u64 = ipdv.count();
        /// Smallest IPDV, with sign: round trip minus the round trip of the previous packet (RFC 5481, section 4.1).
        ipdv_min_us: Option<f64> = stream.ipdv.min().map(micros);
        /// Largest IPDV, with sign.
        ipdv_max_us: Option<f64> = stream.ipdv.max().map(micros);
        /// Mean magnitude of IPDV.
        ipdv_abs_mean_us: Option<f64> = ipdv.mean().map(rounded_micros);
        /// Median magnitude of IPDV.
        ipdv_abs_p50_us: Option<f64> = ipdv_percentile(0.5);
        /// 99th percentile of the magnitude of IPDV.
        ipdv_abs_p99_us: Option<f64> = ipdv_percentile(0.99);
    }

    /// A bar of the round-trip histogram. The last one also counts all longer round trips.
    HistogramBarFigures from bar: HistogramBar {
        /// Lower edge of the bar.
        from_us: f64 = micros(bar.lower);
        /// Upper edge of the bar, not included; null for the last bar.
        to_us: Option<f64> = bar.upper.map(micros);
        /// Round trips from `from_us` to below `to_us`.
        count: u64 = bar.count;
    }

    /// Difference between the scheduled and the actual send times.
    PacingFigures from pacing: &PacingStats [
        let all = &pacing.all;
        let median = |part: &Histogram| part.percentile_if_enough(0.5).map(micros);
        let (first, last) = pacing.first_and_last().unzip();
    ] {
        /// Number of packets with a pacing error.
        pacing_count: u64 = all.count();
        /// Smallest pacing error.
        pacing_min_us: Option<f64> = all.min().map(micros);
        /// Mean pacing error.
        pacing_mean_us: Option<f64> = all.mean().map(rounded_micros);
        /// Median pacing error.
        pacing_p50_us: Option<f64> = median(all);
        /// 90th percentile of the pacing error.
        pacing_p90_us: Option<f64> = all.percentile_if_enough(0.9).map(micros);
        /// 99th percentile of the pacing error.
        pacing_p99_us: Option<f64> = all.percentile_if_enough(0.99).map(micros);
        /// 99.9th percentile of the pacing error.
        pacing_p999_us: Option<f64> = all.percentile_if_enough(0.999).map(micros);
        /// Largest pacing error.
        pacing_max_us: Option<f64> = all.max().map(micros);
        /// Median pacing error of the packets due in the first five seconds; null in runs below 10 s.
        pacing_first_5s_p50_us: Option<f64> = first.as_ref().and_then(median);
        /// Median pacing error of the packets due in the last five seconds; null in runs below 10 s.
        pacing_last_5s_p50_us: Option<f64> = last.as_ref().and_then(median);
    }

    /// Delays and clock changes of the host that ran the measurement.
    HostTimingFigures from (pauses, host): (&PauseResults, &HostTiming) [
        let HostTiming { send_call, timer_error, clock_jumps, kernel_dropped: receive_dropped, send_errors, address_changes } = host;
    ] {
        /// Send calls, including failed ones.
        send_call_count: u64 = send_call.count();
        /// Median duration of a send call.
        send_call_p50_us: Option<f64> = send_call.percentile_if_enough(0.5).map(micros);
        /// 99th percentile of the duration of send calls.
        send_call_p99_us: Option<f64> = send_call.percentile_if_enough(0.99).map(micros);
        /// Longest send call.
        send_call_max_us: Option<f64> = send_call.max().map(micros);
        /// Sleeps that ended because the timer expired.
        timer_error_count: u64 = timer_error.count();
        /// Median time from requested to actual wake-up. Wake-ups are requested early, so packets are delayed by less.
        timer_error_p50_us: Option<f64> = timer_error.percentile_if_enough(0.5).map(micros);
        /// 99th percentile of this time.
        timer_error_p99_us: Option<f64> = timer_error.percentile_if_enough(0.99).map(micros);
        /// Largest time from requested to actual wake-up.
        timer_error_max_us: Option<f64> = timer_error.max().map(micros);
        /// Jumps of the wall clock during the run.
        @problem clock_jumps: u64 = clock_jumps.count;
        /// Largest jump, negative if the clock was set back; null without a jump.
        clock_jump_max_ms: Option<f64> = clock_jumps.max_jump_ns.map(millis);
        /// Pauses of this host: times of more than 50 ms in which the program did not run, and times without replies before a change of the address.
        @problem pauses: u64 = pauses.count;
        /// Total length of these pauses.
        @problem paused_ms: f64 = unsigned_millis(pauses.total_ns);
        /// Part of `paused_ms` in which the machine was suspended (Linux).
        @problem suspended_ms: f64 = unsigned_millis(clock_jumps.suspended_ns);
        /// Datagrams that the full receive buffer of this host dropped; null if unavailable.
        @problem kernel_dropped: Option<u64> = *receive_dropped;
        /// The first eight different errors with which the system refused to send, such as `EPERM: Operation not permitted`.
        send_errors: Vec<String> = send_errors.clone();
        /// The first eight changes of this host's address.
        address_changes: Vec<AddressChange> = address_changes.clone();
    }

    /// What the server reported about itself.
    ServerFigures from server: &ServerResults {
        /// Delay that the server adds to AUDIO (--delay of the server).
        delay_ms: f64 = unsigned_millis(server.delay_ns);
        /// Pauses of the server during the run.
        pauses: u64 = server.pauses.count;
        /// Total length of these pauses.
        paused_ms: f64 = unsigned_millis(server.pauses.total_ns);
        /// Datagrams of all clients that the full receive buffer of the server dropped during the run.
        dropped: u64 = server.dropped;
    }

    /// The format of AUDIO, the server delay, and counters of the source and of recordings.
    AudioFigures from (run, audio): (&RunResults, &AudioResults) [
        let echo = RoundTrip::echo_time(&audio.stats);
        let server_delay = run.server_delay();
    ] {
        /// Why the source ended early.
        #[serde(skip)]
        @skip source_warning: Option<String> = audio.source_warning.clone();
        /// Sample rate of the sent audio.
        @short sample_rate_hz: u32 = audio.sample_rate;
        /// Number of channels of the sent audio.
        @short channels: u16 = audio.channels;
        /// Samples per channel in a full packet.
        @short frame_samples: u32 = audio.frame_samples;
        /// Largest payload, without the header.
        @short payload_bytes: u32 = audio.payload_bytes;
        /// Delay that was subtracted from echo times: the configured one, otherwise the reported one, otherwise the estimate, otherwise 0 (`probe`).
        @short server_delay_ms: Option<f64> = server_delay.effective_ns().map(millis);
        /// Value of --delay, by default the delay of the embedded server.
        server_delay_configured_ms: Option<f64> = server_delay.configured_ns.map(millis);
        /// Delay that the server stated in its first loss report.
        server_delay_reported_ms: Option<f64> = server_delay.reported_ns.map(millis);
        /// Smallest AUDIO echo time minus smallest LATENCY_PING round trip, at least 0.
        server_delay_estimated_ms: Option<f64> = server_delay.estimate.map(|estimate| millis(estimate.ns));
        /// Lower end of the estimate: the estimate minus the spread of the LATENCY_PING round trips, at least 0.
        server_delay_estimated_min_ms: Option<f64> = server_delay.estimate.map(|estimate| millis(estimate.min_ns));
        /// Upper end of the estimate: the estimate plus that spread, at most the smallest echo time.
        server_delay_estimated_max_ms: Option<f64> = server_delay.estimate.map(|estimate| millis(estimate.max_ns));
        /// Smallest echo time: time from sending an AUDIO packet to the arrival of its first intact copy, including the server delay.
        echo_time_min_us: Option<f64> = echo.min().map(micros);
        /// Median echo time.
        echo_time_p50_us: Option<f64> = echo.percentile(0.5).map(micros);
        /// 99th percentile of the echo times.
        echo_time_p99_us: Option<f64> = echo.percentile(0.99).map(micros);
        /// Largest echo time.
        echo_time_max_us: Option<f64> = echo.max().map(micros);
        /// Packets whose samples were not ready when due.
        @problem underruns: u64 = audio.underruns;
        /// Time by which the schedule was delayed because the source had no audio.
        @problem source_paused_ms: f64 = unsigned_millis(audio.source_paused_ns);
        /// Samples per channel written by --record; null without this option.
        @short recorded_samples: Option<u64> = audio.recorded_samples;
        /// Returned packets missing from the --record file.
        @problem recording_dropped: u64 = audio.recording_dropped;
        /// Samples per channel written by --record-both; null without this option.
        @short recorded_both_samples: Option<u64> = audio.recorded_both_samples;
        /// Packets missing from the --record-both file.
        @problem recording_both_dropped: u64 = audio.recording_both_dropped;
    }
}

impl StreamFigures {
    /// Whether any reply arrived, intact or damaged, or whether too few packets were evaluated to say that none did.
    pub(crate) fn has_replies(&self) -> bool {
        self.returned > 0 || self.damaged > 0 || self.excluded * 2 > self.sent
    }
}

json_types! {
    AddressChange => {
        "type": "object", "required": ["from", "to"], "additionalProperties": false,
        "properties": {"from": {"type": "string"}, "to": {"type": "string"}},
    };
}
