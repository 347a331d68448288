//! The pace of AUDIO at one sample rate: how late each packet is on its own timestamps, where the client pauses, and how its clock drifts.
//!
//! The *lateness* of a packet is its arrival minus its timestamp. A path adds to it, by a varying amount, so only the earliest packet of each
//! second counts. A *pause* is a lasting step of the lateness by at least 50 ms: the user was silent, or the host was stopped, while the
//! timestamps stood still. Between pauses are *segments*, in which the lateness may change only as the clocks drift.

use std::time::Duration;

use jamjam_core::stats::DriftEstimator;
use jamjam_core::time::{NANOS_PER_SECOND, Time};

/// Only the earliest packet of such an interval counts.
const SLOT: Duration = Duration::from_secs(1);

/// Minimum step of a pause, in nanoseconds.
pub(super) const MIN_PAUSE_NS: i64 = 50_000_000;

/// A path may take this many slots to deliver what it has held back.
const MAX_STALL_SLOTS: u32 = 10;

/// A path changes the lateness by less than this, in nanoseconds, from second to second in the same direction.
const MAX_QUEUE_NS: f64 = 250e6;

/// The earliest packet of a slot.
#[derive(Clone, Copy, Debug)]
struct Slot {
    start: Time,
    position: u64,
    late: i64,
    /// Changes of the lateness from one packet to the next by at least half a pause, upward and downward.
    steps: [i64; 2],
}

/// The state before a step that may turn out to be a stall of the path.
#[derive(Clone, Debug)]
struct BeforeStep {
    drift: DriftEstimator,
    late: i64,
    slots_left: u32,
}

/// The pace at one sample rate.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    pub(super) rate: u32,
    pub(super) drift: DriftEstimator,
    /// Sum of the changes of the lateness from slot to slot without steps, and their number.
    wander: (u64, u64),
    previous_late: Option<i64>,
    slot: Option<Slot>,
    /// The first complete slot since the timestamps began or a pause ended, and the changes of the lateness from slot to slot since then: their
    /// number, the least and the greatest.
    first_slot: Option<Slot>,
    changes: Option<(u64, i64, i64)>,
    last_slot: Option<Slot>,
    before_step: Option<BeforeStep>,
    /// The smallest lateness of a complete slot.
    lowest: Option<i64>,
}

impl Pace {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate, drift: DriftEstimator::new(rate), ..Self::default() }
    }

    /// The timestamps start again.
    pub(super) fn restart(&mut self) {
        self.drift.on_discontinuity();
        *self =
            Self { rate: self.rate, drift: std::mem::take(&mut self.drift), wander: self.wander, ..Self::default() };
    }

    fn late(&self, position: u64, at: Time) -> i64 {
        let audio_ns = u128::from(position) * u128::from(NANOS_PER_SECOND) / u128::from(self.rate);
        at.as_nanos().cast_signed().wrapping_sub(audio_ns as i64)
    }

    /// Whether a timestamp is ahead of time: no packet of the complete slots was as early.
    pub(super) fn is_ahead(&self, position: u64, at: Time) -> bool {
        self.lowest.is_some_and(|lowest| self.late(position, at) < lowest - MIN_PAUSE_NS)
    }

    /// Records a packet that is newer than all others. Returns the change of the lateness since the last one.
    pub(super) fn on_packet(&mut self, position: u64, at: Time) -> i64 {
        let late = self.late(position, at);
        let step = late - self.previous_late.replace(late).unwrap_or(late);
        if let Some(slot) = self.slot.take_if(|slot| at.duration_since(slot.start) >= SLOT) {
            self.on_slot(slot);
        }
        let slot = self.slot.get_or_insert(Slot { start: at, position, late, steps: [0; 2] });
        if late < slot.late {
            (slot.position, slot.late) = (position, late);
        }
        if step.abs() * 2 >= MIN_PAUSE_NS {
            slot.steps[usize::from(step < 0)] += step.abs();
        }
        step
    }

    fn on_slot(&mut self, slot: Slot) {
        let Slot { position, late, steps, .. } = slot;
        if let Some(last) = self.last_slot.replace(slot) {
            let change = late - last.late;
            let caught_up = self.before_step.take_if(|before| late <= before.late + MIN_PAUSE_NS / 2);
            // A wrong rate changes the lateness by as much, but not from one packet to the next.
            let direction = usize::from(change < 0);
            let is_step =
                change.abs() >= MIN_PAUSE_NS && (steps[direction] + last.steps[direction]) * 2 >= change.abs();
            if let Some(before) = caught_up {
                self.drift = before.drift;
            } else if is_step {
                if change > 0 && self.before_step.is_none() {
                    let drift = self.drift.clone();
                    self.before_step = Some(BeforeStep { drift, late: last.late, slots_left: MAX_STALL_SLOTS });
                }
                self.drift.on_discontinuity();
                (self.first_slot, self.changes) = (None, None);
            } else {
                let (count, least, greatest) = self.changes.unwrap_or((0, change, change));
                self.changes = Some((count + 1, least.min(change), greatest.max(change)));
                self.wander = (self.wander.0.saturating_add(change.unsigned_abs()), self.wander.1 + 1);
            }
        }
        self.before_step.take_if(|before| {
            before.slots_left -= 1;
            before.slots_left == 0
        });
        self.first_slot.get_or_insert(slot);
        self.lowest = Some(self.lowest.map_or(late, |lowest| lowest.min(late)));
        self.drift.on_earliest(position as f64 / f64::from(self.rate), late as f64);
    }

    /// By which share the timestamps advance too fast, if this is more than a path could feign: it delivers what it has held back at once, not
    /// at a steady rate.
    pub(super) fn gross_error(&self) -> Option<f64> {
        let (_, least, greatest) = self.changes.filter(|(count, ..)| *count > 1)?;
        let is_steady =
            (greatest <= 0 || least > 0) && least.abs().max(greatest.abs()) <= 2 * least.abs().min(greatest.abs());
        let (first, last) = self.first_slot.zip(self.last_slot)?;
        let (late, elapsed) =
            ((last.late - first.late) as f64, last.start.duration_since(first.start).as_nanos() as f64);
        (is_steady && late.abs() > MAX_QUEUE_NS + 0.01 * elapsed).then_some(-late / elapsed)
    }

    /// How much the lateness changes in a second on average: least for the right rate.
    pub(super) fn mean_wander(&self) -> u64 {
        self.wander.0 / self.wander.1.max(1)
    }
}
