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

/// An outage, and what it did to a pair that carried AUDIO before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgedOutage {
    /// When it began.
    pub start: Time,
    /// When it ended.
    pub end: Time,
    /// Time from its end to the AUDIO with which every direction that had carried AUDIO was back. Otherwise the time from its end until a member
    /// left, the next outage began, or the run ended.
    pub recovery: Result<Duration, Duration>,
    carried: [bool; 2],
}

/// Judges one pair of members.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Time 0 of outages, once AUDIO has been forwarded.
    time_0: Option<Time>,
    /// The outages of each direction. Each is one of the pair.
    outages: [Outages; 2],
    /// Those that end until this time have begun.
    begun: Time,
    /// When AUDIO was last forwarded in each direction.
    last: [Option<Time>; 2],
    current: Option<JudgedOutage>,
    /// The last AUDIO, at most as long as [`JUDGED_TIME`], that was forwarded since the end of the current outage in a direction that is judged.
    forwarded: VecDeque<(Time, Direction)>,
    /// When a member left. What still passes may complete a recovery, but silence is no fault.
    pub left_at: Option<Time>,
    /// This member, unless it has left by itself.
    pub lost: Option<Arc<str>>,
    /// The first outages of those that have been judged, in order.
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
            self.begin(self.begun.max(time_0 + start), time_0 + end);
            self.begun = time_0 + end;
        }
    }

    /// From now on, this direction has these outages. One that no longer applies ends.
    pub fn change(&mut self, at: Time, direction: Direction, outages: Outages) {
        self.advance(at);
        if let Some(current) = &mut self.current {
            current.end = current.end.min(at);
        }
        self.outages[direction as usize] = outages;
        self.begun = at;
        self.advance(at);
    }

    /// AUDIO was forwarded. `time_0` is that of outages.
    pub fn on_forwarded(&mut self, at: Time, direction: Direction, time_0: Time) {
        self.time_0 = Some(time_0);
        self.advance(at);
        let last = self.last[direction as usize].replace(at);
        let Some(outage) = self.current.filter(|outage| outage.recovery.is_err() && at >= outage.end) else { return };
        if !outage.carried[direction as usize] {
            return;
        }
        if last.is_none_or(|last| last.as_nanos() / RESOLUTION_NS < at.as_nanos() / RESOLUTION_NS) {
            self.forwarded.push_back((at, direction));
        }
        self.judge(at);
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
        outage.recovery = outage.recovery.map_err(|_| self.left_at.unwrap_or(at).min(at).duration_since(outage.end));
        if self.judged.len() < MAX_OUTAGES {
            self.judged.push(outage);
        }
    }

    /// An outage that begins before the current one has ended continues it.
    fn begin(&mut self, start: Time, end: Time) {
        if let Some(current) = self.current.as_mut().filter(|current| start <= current.end) {
            current.end = current.end.max(end);
            return;
        }
        self.end_judgment(start);
        let carried = self.last.map(|last| last.is_some_and(|last| start.duration_since(last) <= MAX_SILENCE));
        let outage = JudgedOutage { start, end, recovery: Err(Duration::ZERO), carried };
        let are_both_there = self.left_at.is_none_or(|left_at| start < left_at);
        self.current = Some(outage).filter(|_| carried.contains(&true) && are_both_there);
    }

    /// Looks for the first packet since which all judged directions have been back.
    fn judge(&mut self, now: Time) {
        let Some(outage) = self.current.as_mut().filter(|outage| outage.recovery.is_err()) else { return };
        while let Some((first, _)) = self.forwarded.front().copied().filter(|(first, _)| *first + JUDGED_TIME <= now) {
            let mut back = [0_u32; 2];
            for (at, direction) in &self.forwarded {
                let interval = (at.as_nanos() - first.as_nanos()) / INTERVAL_NS;
                back[*direction as usize] |= 1 << interval.min(INTERVALS);
            }
            let all = (1 << INTERVALS) - 1;
            if (0..2).all(|direction| !outage.carried[direction] || back[direction] & all == all) {
                outage.recovery = Ok(first.duration_since(outage.end));
                return;
            }
            self.forwarded.pop_front();
        }
    }
}
