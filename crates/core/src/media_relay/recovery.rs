//! How the AUDIO between two members gets through outages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::direction::Direction;
use crate::impairment::Outages;
use crate::time::Time;

/// A direction is judged if it has carried AUDIO within this time before the outage.
const MAX_SILENCE: Duration = Duration::from_secs(1);

/// AUDIO is back from the packet on from which there is some in each of [`INTERVALS`] of this length.
const INTERVAL_NS: u64 = 100_000_000;

const INTERVALS: u64 = 10;

/// How long AUDIO must have been back.
pub const JUDGED_TIME: Duration = Duration::from_nanos(INTERVAL_NS * INTERVALS);

/// Of each direction, the first packet in a time of this many nanoseconds is kept while a recovery is judged.
const RESOLUTION_NS: u64 = 1_000_000;

/// Maximum number of outages of a pair that are judged.
pub const MAX_OUTAGES: usize = 1_000;

/// An outage, and what it did to a direction that had carried AUDIO before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgedOutage {
    /// When it began.
    pub start: Time,
    /// When it ended.
    pub end: Time,
    /// Whether an operator caused it: 100 % loss, or new ports.
    pub is_by_hand: bool,
    /// Time from its end to the AUDIO with which the direction was back. Otherwise the time from its end until a member left, the next outage
    /// began, or the run ended. `None` if there was no AUDIO within `MAX_SILENCE` before, so that nothing follows from what came.
    pub recovery: Option<Result<Duration, Duration>>,
}

/// Judges one direction between two members.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Time 0 of outages, once AUDIO has been forwarded.
    time_0: Option<Time>,
    /// The outages of each direction. Each is one of both.
    outages: [Outages; 2],
    /// Those that end until this time have begun.
    begun: Time,
    /// When AUDIO was last forwarded.
    last: Option<Time>,
    current: Option<JudgedOutage>,
    /// The last AUDIO, at most as long as [`JUDGED_TIME`], that arrived and was forwarded since the end of the current outage.
    forwarded: VecDeque<Time>,
    /// When a member left. What still passes may complete a recovery, but silence is no fault.
    pub left_at: Option<Time>,
    /// This member, unless it has left by itself.
    pub lost: Option<Arc<str>>,
    /// The first outages of those that have been judged, in order. Of several in a silence, only the first is among them.
    pub judged: Vec<JudgedOutage>,
}

impl Recovery {
    /// The outages begin that start until `now`.
    fn advance(&mut self, now: Time) {
        let Some(time_0) = self.time_0 else { return };
        let next = |begun: Time| move |outages: &Outages| outages.next(begun.duration_since(time_0));
        while let Some((start, end)) = self.outages.iter().filter_map(next(self.begun)).min()
            && time_0 + start <= now
            && time_0 + end > self.begun
        {
            let is_by_hand = self.outages.iter().any(|outages| *outages == Outages::endless());
            self.begin(self.begun.max(time_0 + start), time_0 + end, is_by_hand);
            self.begun = time_0 + end;
        }
    }

    /// From now on, a direction has these outages. One that no longer applies ends.
    pub fn change(&mut self, at: Time, direction: Direction, outages: Outages) {
        self.advance(at);
        if let Some(current) = &mut self.current {
            current.end = current.end.min(at);
        }
        self.outages[direction as usize] = outages;
        self.begun = at;
        self.advance(at);
    }

    /// AUDIO was forwarded that had arrived at `arrived_at`. `time_0` is that of outages.
    pub fn on_forwarded(&mut self, at: Time, arrived_at: Time, time_0: Time) {
        self.time_0 = Some(time_0);
        self.advance(at);
        let last = self.last.replace(at);
        if self.current.is_none_or(|outage| arrived_at < outage.end) {
            return;
        }
        if last.is_none_or(|last| last.as_nanos() / RESOLUTION_NS < at.as_nanos() / RESOLUTION_NS) {
            self.forwarded.push_back(at);
        }
        self.judge(at);
    }

    /// From now on, members need other ports, as after an outage: AUDIO that arrives from now on has found them.
    pub fn renumber(&mut self, at: Time) {
        self.advance(at);
        self.begin(at, at, true);
    }

    /// Ends all judgment.
    pub fn close(&mut self, at: Time) {
        self.advance(at);
        self.end_judgment(at);
    }

    /// Ends the judgment of the current outage.
    fn end_judgment(&mut self, at: Time) {
        self.judge(at);
        self.forwarded.clear();
        let Some(mut outage) = self.current.take() else { return };
        outage.end = outage.end.min(at);
        let until = self.left_at.unwrap_or(at).min(at);
        outage.recovery = outage.recovery.map(|one| one.map_err(|_| until.duration_since(outage.end)));
        if self.judged.len() < MAX_OUTAGES {
            self.judged.push(outage);
        }
    }

    /// An outage that begins before the current one has ended continues it.
    fn begin(&mut self, start: Time, end: Time, is_by_hand: bool) {
        if let Some(current) = self.current.as_mut().filter(|current| start <= current.end) {
            current.end = current.end.max(end);
            current.is_by_hand |= is_by_hand;
            return;
        }
        self.end_judgment(start);
        let Some(last) = self.last.filter(|_| self.left_at.is_none_or(|left_at| start < left_at)) else { return };
        let recovery = (start.duration_since(last) <= MAX_SILENCE).then_some(Err(Duration::ZERO));
        let was_silent = self.judged.last().is_some_and(|before| before.recovery.is_none());
        self.current = (recovery.is_some() || !was_silent).then_some(JudgedOutage { start, end, is_by_hand, recovery });
    }

    /// Looks for the first packet since which AUDIO has been back.
    fn judge(&mut self, now: Time) {
        let current = self.current.as_mut().filter(|outage| matches!(outage.recovery, Some(Err(_))));
        let Some(outage) = current else { return self.forwarded.clear() };
        while let Some(first) = self.forwarded.front().copied().filter(|first| *first + JUDGED_TIME <= now) {
            let interval = |at: &Time| (at.as_nanos() - first.as_nanos()) / INTERVAL_NS;
            let back = self.forwarded.iter().fold(0, |back, at| back | 1_u32 << interval(at).min(INTERVALS));
            let all = (1 << INTERVALS) - 1;
            if back & all == all {
                outage.recovery = Some(Ok(first.duration_since(outage.end)));
                return;
            }
            self.forwarded.pop_front();
        }
    }
}
