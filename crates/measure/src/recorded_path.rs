//! Turns a run record into impairment (`--like`).

use jamjam_core::direction::Direction;
use jamjam_core::impairment::splitmix64;
use jamjam_core::recorded_path::RecordedPath;
use jamjam_core::time::{MIN_PAUSE, saturating_nanos};

use crate::client::{PacketOutcome, StreamKind};
use crate::run_record::RecordedRun;

/// Minimum number of settled packets: fewer show no ratio of loss.
const MIN_SETTLED: usize = 100;

impl RecordedRun {
    /// The path that the evaluated stream has recorded, and whether the server's delay is known. If it is not, the fastest round trip counts
    /// as the delay. `seed` decides to which direction each lost packet belongs.
    pub fn path(&self, seed: u64) -> Result<(RecordedPath, bool), String> {
        let run = &self.run;
        let stream = run.evaluated_stream;
        if run.websocket.is_some() || run.moqt.is_some() {
            return Err("it is not a run over UDP: a connection hides losses; record a run over UDP".to_owned());
        }
        if !run.replies_expected {
            return Err("its run expected no replies and does not show what was lost; omit --no-echo".to_owned());
        }
        let mut events: Vec<_> = self.packets.iter().filter(|packet| packet.stream == stream).collect();
        // A packet whose intact copy arrived is returned, whatever its other copies.
        events.sort_by_key(|packet| (packet.sent_at, packet.sequence, packet.outcome != PacketOutcome::Returned));
        events.dedup_by_key(|packet| packet.sequence);
        let first = events.iter().position(|packet| packet.outcome != PacketOutcome::NotSent).unwrap_or(0);
        let started = events.get(first).map_or_else(Default::default, |packet| packet.sent_at);
        // Times are counted without the spans that are cut out, which end at the next packet.
        let (mut cut, mut skipped, mut sent, mut last_sent, mut count) = (0, Vec::new(), 0, 0, 0);
        // When each was sent, whether it was lost, and its round-trip time if it returned.
        let mut packets: Vec<(u64, bool, Option<i64>)> = Vec::new();
        for packet in &events[first..] {
            let at = saturating_nanos(packet.sent_at - started);
            if matches!(packet.outcome, PacketOutcome::Excluded | PacketOutcome::NotSent) {
                skipped.push(at);
                continue;
            }
            let span = skipped.first().map_or(0, |since| at - since);
            if span > saturating_nanos(MIN_PAUSE) {
                cut += span;
                skipped.clear();
            }
            // What is not settled takes the fate of the packet before.
            let before = packets.last().is_some_and(|(_, is_lost, _)| *is_lost);
            packets.extend(skipped.drain(..).map(|at| (at - cut, before, None)));
            (sent, last_sent) = (sent + 1, at - cut);
            let (is_lost, returned_at) = match packet.outcome {
                PacketOutcome::Returned => (false, packet.received_at),
                PacketOutcome::Lost | PacketOutcome::Damaged => (true, None),
                _ => (before, None),
            };
            count += usize::from(!matches!(packet.outcome, PacketOutcome::InFlight | PacketOutcome::Duplicate));
            packets.push((last_sent, is_lost, returned_at.map(|at| at.signed_nanos_since(packet.sent_at))));
        }
        if count < MIN_SETTLED {
            return Err(format!("it has {count} settled packets, but needs {MIN_SETTLED}; record a longer run"));
        }
        let known_delay = if stream == StreamKind::Audio { run.server_delay().effective_ns() } else { Some(0) };
        let delay = known_delay.or(packets.iter().filter_map(|(.., time)| *time).min()).unwrap_or(0);
        let round_trip =
            |(at, _, time): &(u64, bool, Option<i64>)| Some((*at as f64, ((*time)? - delay).max(0) as f64));
        let round_trips = packets.iter().filter_map(round_trip).collect();
        let lost = packets.iter().filter(|(_, is_lost, _)| *is_lost).count() as u64;
        let share = run.lost_by_direction(stream).filter(|by_direction| by_direction != &[0, 0]);
        let upstream = share.map_or(lost / 2, |[up, down]| lost * up / (up + down));
        // Selects about so many of the lost packets. What is lost in a row is lost in one direction, so that bursts stay whole.
        let (mut left, mut wanted) = (lost, upstream);
        let mut direction = |count: u64| {
            let is_up = splitmix64(seed, left) % left < wanted;
            (left, wanted) = (left - count, wanted.saturating_sub(if is_up { count } else { 0 }));
            if is_up { Direction::Up } else { Direction::Down }
        };
        let by_fate = packets.chunk_by(|(_, one, _), (_, next, _)| one == next);
        let lost_in = by_fate.flat_map(|row| vec![row[0].1.then(|| direction(row.len() as u64)); row.len()]);
        let packets = packets.iter().zip(lost_in).map(|((at, ..), lost_in)| (*at, lost_in)).collect();
        let length = last_sent + last_sent / (sent - 1);
        let first = events.get(first).map_or(0, |packet| packet.sequence);
        Ok((RecordedPath::new((first, packets), round_trips, length), known_delay.is_some()))
    }
}
