//! How deep the buffer is, and what is done about it.
//!
//! A packet that came at `t` and holds the sound from place `x` on lies `t - x` behind; the quickest packet of a second is the
//! least behind. A device that asks at `t` for what begins at place `p` lies `t - p` behind; of a second's askings the one that
//! was the least behind counts, for what a machine does besides makes both of them late and never early. The difference of the two
//! is the *depth*: how long the quickest packet waits until the first of its samples is taken, at most. It has to be the block that
//! a device takes at once, what later packets are allowed, and a tolerance within which nothing is done about it.

use std::time::Duration;

use super::spread::Spread;
use super::{Config, Depth};
use crate::time::{Time, nanos};

/// How long a window is in which the least counts.
const WINDOW: Duration = Duration::from_secs(1);

/// How long nothing may come in time before something is done about it.
const PATIENCE: Duration = Duration::from_millis(100);

/// What later packets are allowed before it is known how late they are, in seconds.
const FIRST_ALLOWANCE: f64 = 0.005;

/// The least and the most that they are allowed by themselves.
const ALLOWED: (f64, f64) = (0.001, 0.2);

/// Seconds in which a device is expected to take as much at once again as it did: some do so now and then only.
const BLOCKS: usize = 16;

/// The least tolerance, in seconds, and which part of the allowance it is else.
const TOLERANCE: (f64, f64) = (0.000_5, 0.125);

/// The most that sound is played faster or slower: 3.5 cents, which nobody hears.
const MOST: f64 = 0.002;

/// What of an error is corrected within a second, and how fast a lasting one is learnt: settled in half a minute, without
/// swinging.
const GAIN: (f64, f64) = (0.25, 0.015);

/// Packets were late and the depth lacks so much, in seconds: playing pauses.
const PAUSES: f64 = 0.001;

/// The depth is so much too large, in seconds: playing skips.
const SKIPS: f64 = 0.05;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    /// Play so much faster than samples come.
    Faster(f64),
    /// Stand still for so many frames.
    Pause(u64),
    /// Leave out so many frames.
    Skip(u64),
}

/// What was the least behind in a window, in frames.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    since: Option<Time>,
    packet: Option<f64>,
    device: Option<f64>,
    /// Frames that the device took at once, at most.
    block: usize,
    /// Whether packets came too late, and in time.
    late: bool,
    in_time: bool,
}

/// The lesser, where there is one.
fn least(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    [one, other].into_iter().flatten().reduce(f64::min)
}

impl Window {
    /// And what came after it.
    fn and(self, later: Self) -> Self {
        Self {
            since: self.since.or(later.since),
            packet: least(self.packet, later.packet),
            device: least(self.device, later.device),
            block: self.block.max(later.block),
            late: self.late || later.late,
            in_time: self.in_time || later.in_time,
        }
    }

    /// In frames, where anything came.
    fn depth(&self) -> Option<f64> {
        Some(self.device? - self.packet?)
    }
}

/// The level, and what is known of the delays.
#[derive(Debug)]
pub(super) struct Level {
    rate: f64,
    /// `None`: as much as is needed.
    asked: Option<f64>,
    spread: Spread,
    /// What the least delay was in the window before, in frames.
    before: Option<f64>,
    window: Window,
    /// What is not part of the window yet.
    latest: Window,
    /// Whether the next look decides, however little it has seen.
    is_hurried: bool,
    /// When the device asked last, and how much it has taken since: some are given what they ask for in parts.
    asked_at: Option<Time>,
    at_once: usize,
    /// What the device took at once, at most, in each of the latest windows.
    blocks: [usize; BLOCKS],
    /// Whether the depth was ever wrong: from then on it is steered.
    steers: bool,
    /// The part of the speed that was learnt, in frames a second.
    learnt: f64,
    sum: f64,
    windows: u64,
    range: Option<(f64, f64)>,
    allowance: f64,
}

impl Level {
    pub(super) fn new(config: Config) -> Self {
        let asked = config.allowance.map(|allowance| allowance.as_secs_f64());
        let block = (config.block().as_secs_f64() * f64::from(config.rate)).ceil() as usize;
        Self {
            rate: f64::from(config.rate),
            asked,
            spread: Spread::new(),
            before: None,
            window: Window::default(),
            latest: Window::default(),
            is_hurried: false,
            asked_at: None,
            at_once: 0,
            blocks: [block; BLOCKS],
            steers: false,
            learnt: 0.0,
            sum: 0.0,
            windows: 0,
            range: None,
            allowance: asked.unwrap_or(FIRST_ALLOWANCE),
        }
    }

    fn frames(&self, at: Time) -> f64 {
        at.as_nanos() as f64 * 1e-9 * self.rate
    }

    fn tolerance(&self) -> f64 {
        TOLERANCE.0.max(self.allowance * TOLERANCE.1)
    }

    /// What the depth should be, in frames.
    fn target(&self) -> f64 {
        let block = self.blocks.iter().max().copied().unwrap_or(0);
        block as f64 + (self.allowance + self.tolerance()) * self.rate
    }

    /// A packet came that begins at `start`.
    pub(super) fn on_packet(&mut self, at: Time, start: i64, is_late: bool) {
        let behind = self.frames(at) - start as f64;
        self.latest.packet = least(self.latest.packet, Some(behind));
        self.latest.late |= is_late;
        self.latest.in_time |= !is_late;
        let quickest = least(self.before, least(self.window.packet, self.latest.packet));
        self.spread.add((behind - quickest.unwrap_or(behind)) / self.rate);
    }

    /// Where playing begins, if it begins at `now` and a packet has come.
    pub(super) fn begin(&self, now: Time) -> Option<i64> {
        Some((self.frames(now) - self.latest.packet? - self.target()).round() as i64)
    }

    /// The device asked at `now` for what begins at `place`, and took `taken` frames. Where it `stood` still nothing is learnt.
    pub(super) fn on_fill(&mut self, now: Time, place: i64, taken: usize, stood: bool) -> Option<Change> {
        if stood {
            (self.window, self.latest) = Default::default();
            return None;
        }
        let behind = self.frames(now) - place as f64;
        let latest = &mut self.latest;
        if self.asked_at.replace(now) == Some(now) {
            self.at_once += taken;
        } else {
            self.at_once = taken;
            latest.device = least(latest.device, Some(behind));
        }
        latest.block = latest.block.max(self.at_once);
        if now.since(*latest.since.get_or_insert(now)) < PATIENCE {
            return None;
        }
        let latest = std::mem::take(latest);
        let all_late = latest.late && !latest.in_time;
        self.spread.settle(!all_late);
        if all_late || std::mem::take(&mut self.is_hurried) {
            // What was before says nothing of the path, or the device, as it is now.
            (self.window, self.before) = Default::default();
            return self.turn(latest);
        }
        self.window = self.window.and(latest);
        let whole = self.window.since.is_some_and(|since| now.since(since) >= WINDOW);
        whole.then(|| std::mem::take(&mut self.window)).and_then(|window| self.turn(window))
    }

    /// What the device did so far says nothing of where it is now.
    pub(super) fn interrupt(&mut self) {
        (self.window, self.latest) = Default::default();
        self.is_hurried = true;
    }

    /// A window has ended.
    fn turn(&mut self, window: Window) -> Option<Change> {
        // Nothing came: nothing is known.
        let depth = window.depth()?;
        self.before = window.packet;
        self.blocks[self.windows as usize % BLOCKS] = window.block;
        self.note(depth / self.rate);
        if self.asked.is_none() {
            self.allowance = self.spread.width().clamp(ALLOWED.0, ALLOWED.1);
            self.spread.forget();
        }
        let wrong = depth - self.target();
        if window.late && wrong < -PAUSES * self.rate {
            return Some(Change::Pause(-wrong as u64));
        }
        if wrong > (SKIPS + self.tolerance()) * self.rate {
            return Some(Change::Skip(wrong as u64));
        }
        self.steers |= wrong.abs() > self.tolerance() * self.rate;
        if !self.steers {
            return None;
        }
        let most = MOST * self.rate;
        let speed = self.learnt + wrong * GAIN.0;
        // What takes longer than a second anyway teaches nothing of a clock.
        if speed.abs() < most {
            self.learnt = (self.learnt + wrong * GAIN.1).clamp(-most, most);
        }
        Some(Change::Faster(1.0 + speed.clamp(-most, most) / self.rate))
    }

    fn note(&mut self, depth: f64) {
        self.sum += depth;
        self.windows += 1;
        let (least, most) = self.range.get_or_insert((depth, depth));
        *least = least.min(depth);
        *most = most.max(depth);
    }

    /// What later packets are allowed.
    pub(super) fn allowance(&self) -> Duration {
        Duration::from_nanos(nanos(Duration::from_secs_f64(self.allowance)))
    }

    /// What was measured so far. In the first second, what there is.
    pub(super) fn depth(&self) -> Option<Depth> {
        let Some((min, max)) = self.range else {
            let depth = self.window.and(self.latest).depth()? / self.rate;
            return Some(Depth { min: depth, mean: depth, max: depth });
        };
        Some(Depth { min, mean: self.sum / self.windows as f64, max })
    }
}
