//! What a listener would notice of a run's sound: gaps, level, clipping, silence, and whether what came back is what was sent, in
//! its place.
//!
//! An [`Intake`] hears sound as it comes from its source. An [`Ear`] is told of packets by their index: what was sent in order, what
//! came back in any order. Both keep sums, the ear a bounded list of gaps and the first seconds of sound for a comparison, so that
//! memory does not grow with the run.

mod alignment;
mod clips;
mod gaps;
mod intake;
mod level;

pub use alignment::{Alignment, FARTHEST, Fit, WINDOW};
pub use clips::CLIPPED;
pub use gaps::{Gap, Gaps, MOST_GAPS};
pub use intake::{Intake, Taken};
pub use level::{FULL_SCALE, Level};

use alignment::Comparison;
use level::Meter;

/// The form of the sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Samples a second and channel.
    pub rate: u32,
    /// Interleaved channels.
    pub channels: u16,
    /// Samples a channel in each packet but the last.
    pub frame_samples: u32,
}

/// How a packet came back that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// With the very bytes that were sent.
    Whole,
    /// With the very bytes that were sent, after more than `--late-after`: too late to be played.
    Late,
    /// With others.
    Changed,
}

/// Listens to both sides of one run.
#[derive(Debug)]
pub struct Ear {
    shape: Shape,
    sent: Meter,
    returned: Meter,
    gaps: Gaps,
    comparison: Comparison,
    /// Samples a channel sent.
    samples: u64,
    /// Packets that came back with other bytes.
    changed: u64,
}

/// What was heard. Times are in samples a channel, counted from the first that was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// The form of the sound.
    pub shape: Shape,
    /// What was sent, a channel each.
    pub sent: Vec<Level>,
    /// What came back in time, whole or changed, a channel each. `None`: nothing did.
    pub returned: Option<Vec<Level>>,
    /// What did not come back in time.
    pub gaps: Gaps,
    /// Samples a channel that were sent.
    pub samples: u64,
    /// Packets that came back with other bytes.
    pub changed: u64,
    /// Whether what came back is what was sent, in its place.
    pub alignment: Alignment,
}

impl Heard {
    /// Whether all that was sent is digital silence.
    pub fn sent_is_silent(&self) -> bool {
        is_silent(&self.sent)
    }

    /// Whether all that came back is.
    pub fn returned_is_silent(&self) -> bool {
        self.returned.as_deref().is_some_and(is_silent)
    }
}

fn is_silent(levels: &[Level]) -> bool {
    levels.iter().all(|level| level.samples > 0 && level.peak == 0.0 && level.not_numbers == 0)
}

impl Ear {
    /// Begins to listen.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            sent: Meter::new(shape.channels),
            returned: Meter::new(shape.channels),
            gaps: Gaps::new(),
            comparison: Comparison::new(shape.channels),
            samples: 0,
            changed: 0,
        }
    }

    /// The samples of the next packet that was sent, interleaved. `index` is its place in the run, from 0.
    pub fn on_sent(&mut self, index: u64, samples: &[f32]) {
        let place = self.place(index);
        self.sent.hear(place, samples);
        self.comparison.on_sent(place, samples);
        self.samples = self.samples.max(place + self.frames(samples));
    }

    /// A packet came back, for the first time in this way. What is [`Came::Late`] is a gap.
    pub fn on_returned(&mut self, index: u64, samples: &[f32], came: Came) {
        let place = self.place(index);
        match came {
            Came::Late => return self.on_missing(index),
            Came::Whole => {}
            Came::Changed => {
                self.changed += 1;
                self.comparison.on_changed(place, samples);
            }
        }
        self.returned.hear(place, samples);
    }

    /// A packet did not come back, and will not.
    pub fn on_missing(&mut self, index: u64) {
        self.gaps.add(index);
    }

    /// All has been heard.
    pub fn finish(self) -> Heard {
        let Self { shape, sent, returned, mut gaps, comparison, samples, changed } = self;
        gaps.in_samples(u64::from(shape.frame_samples), samples);
        let came = returned.samples() > 0;
        let alignment = match (came, changed) {
            (false, _) => Alignment::Nothing,
            (true, 0) => Alignment::Exact,
            (true, _) => comparison.judge(),
        };
        Heard {
            shape,
            sent: sent.finish(),
            returned: came.then(|| returned.finish()),
            gaps,
            samples,
            changed,
            alignment,
        }
    }

    fn place(&self, index: u64) -> u64 {
        index.saturating_mul(u64::from(self.shape.frame_samples))
    }

    fn frames(&self, samples: &[f32]) -> u64 {
        samples.len() as u64 / u64::from(self.shape.channels.max(1))
    }
}
