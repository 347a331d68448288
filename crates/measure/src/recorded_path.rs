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
        let (mut cut, mut skipped_since, mut sent, mut last_sent) = (0, None, 0, 0);
        // When each was sent, and its round-trip time; `None` if it was lost.
        let mut settled: Vec<(u64, Option<i64>)> = Vec::new();
        for packet in &events[first..] {
            let at = saturating_nanos(packet.sent_at - started);
            if matches!(packet.outcome, PacketOutcome::Excluded | PacketOutcome::NotSent) {
                skipped_since.get_or_insert(at);
                continue;
            }
            let skipped = skipped_since.take().map_or(0, |since| at - since);
            cut += if skipped > saturating_nanos(MIN_PAUSE) { skipped } else { 0 };
            (sent, last_sent) = (sent + 1, at - cut);
            let returned_at = match packet.outcome {
                PacketOutcome::Returned => packet.received_at,
                PacketOutcome::Lost | PacketOutcome::Damaged => None,
                // It takes the fate of the packet before.
                _ => continue,
            };
            settled.push((last_sent, returned_at.map(|at| at.signed_nanos_since(packet.sent_at))));
        }
        let count = settled.len();
        if count < MIN_SETTLED {
            return Err(format!("it has {count} settled packets, but needs {MIN_SETTLED}; record a longer run"));
        }
        let known_delay = if stream == StreamKind::Audio { run.server_delay().effective_ns() } else { Some(0) };
        let delay = known_delay.or(settled.iter().filter_map(|(_, time)| *time).min()).unwrap_or(0);
        let round_trips = settled.iter().filter_map(|(at, time)| Some((*at as f64, ((*time)? - delay).max(0) as f64)));
        let round_trips: Vec<_> = round_trips.collect();
        let lost = (count - round_trips.len()) as u64;
        let share = run.lost_by_direction(stream).filter(|by_direction| by_direction != &[0, 0]);
        let upstream = share.map_or(lost / 2, |[up, down]| lost * up / (up + down));
        // Selects so many of the lost packets, each set of them with the same probability.
        let (mut left, mut wanted) = (lost, upstream);
        let mut direction = || {
            let is_up = splitmix64(seed, left) % left < wanted;
            (left, wanted) = (left - 1, wanted - u64::from(is_up));
            if is_up { Direction::Up } else { Direction::Down }
        };
        let packets = settled.iter().map(|(at, time)| (*at, time.is_none().then(&mut direction))).collect();
        let length = last_sent + last_sent / (sent - 1);
        Ok((RecordedPath::new(packets, round_trips, length), known_delay.is_some()))
    }
}
