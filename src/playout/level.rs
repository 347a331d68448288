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

/// What later packets are allowed before it is known how late they are, in seconds.
const FIRST_ALLOWANCE: f64 = 0.005;

/// The least and the most that they are allowed by themselves.
const ALLOWED: (f64, f64) = (0.001, 0.2);

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
    late: bool,
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
    block: usize,
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
        Self {
            rate: f64::from(config.rate),
            asked,
            spread: Spread::new(),
            before: None,
            window: Window::default(),
            block: (f64::from(config.device_block) * f64::from(config.rate) / f64::from(config.device_rate)).ceil()
                as usize,
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
        self.block as f64 + (self.allowance + self.tolerance()) * self.rate
    }

    /// A packet came that begins at `start`.
    pub(super) fn on_packet(&mut self, at: Time, start: i64, is_late: bool) {
        let behind = self.frames(at) - start as f64;
        let least = self.window.packet.map_or(behind, |least| least.min(behind));
        self.window.packet = Some(least);
        self.window.late |= is_late;
        let quickest = self.before.map_or(least, |before| before.min(least));
        self.spread.add((behind - quickest) / self.rate);
    }

    /// Where playing begins, if it begins at `now` and a packet has come.
    pub(super) fn begin(&self, now: Time) -> Option<i64> {
        let behind = self.window.packet.or(self.before)?;
        Some((self.frames(now) - behind - self.target()).round() as i64)
    }

    /// The device asked at `now` for what begins at `place`, and took `taken` frames. Where it `stood` still nothing is learnt.
    pub(super) fn on_fill(&mut self, now: Time, place: i64, taken: usize, stood: bool) -> Option<Change> {
        if stood {
            self.window = Window { packet: self.window.packet, ..Window::default() };
            return None;
        }
        let behind = self.frames(now) - place as f64;
        let window = &mut self.window;
        window.device = Some(window.device.map_or(behind, |least| least.min(behind)));
        window.block = window.block.max(taken);
        let since = *window.since.get_or_insert(now);
        (now.since(since) >= WINDOW).then(|| self.turn())?
    }

    /// A window has ended.
    fn turn(&mut self) -> Option<Change> {
        let Window { packet, device, block, late, .. } = std::mem::take(&mut self.window);
        // Nothing came: nothing is known.
        let depth = device? - packet?;
        self.before = packet;
        self.block = block;
        self.note(depth / self.rate);
        if self.asked.is_none() {
            self.allowance = self.spread.width().clamp(ALLOWED.0, ALLOWED.1);
            self.spread.forget();
        }
        let wrong = depth - self.target();
        if late && wrong < -PAUSES * self.rate {
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
        self.learnt = (self.learnt + wrong * GAIN.1).clamp(-most, most);
        Some(Change::Faster(1.0 + (self.learnt + wrong * GAIN.0).clamp(-most, most) / self.rate))
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
            let depth = (self.window.device? - self.window.packet?) / self.rate;
            return Some(Depth { min: depth, mean: depth, max: depth });
        };
        Some(Depth { min, mean: self.sum / self.windows as f64, max })
    }
}
