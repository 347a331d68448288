//! A run's sound to look at and to listen to, in memory that does not grow: how far both sides reach in each of at most
//! [`COLUMNS`] stretches of time, where something is missing, and, while it is short, the sound itself.
//!
//! What it shows depends on what was sent and came back, never on the order of that.

mod clip;

use std::ops::Range;

use clip::Clip;

/// Most columns. Once a sound takes more, two become one and each is twice as wide.
pub const COLUMNS: usize = 1_600;

/// From the least to the most of some samples; the other way round where there are none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// The least sample.
    pub least: f32,
    /// The most.
    pub most: f32,
}

impl Default for Reach {
    fn default() -> Self {
        Self { least: f32::INFINITY, most: f32::NEG_INFINITY }
    }
}

impl Reach {
    /// Whether there are any samples.
    pub fn is_any(self) -> bool {
        self.least <= self.most
    }

    fn over(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
}

/// One stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Column {
    /// Of what was sent, all channels together.
    pub sent: Reach,
    /// Of what came back.
    pub returned: Reach,
    /// Samples a channel that did not come back in time.
    pub missing: u64,
}

impl Column {
    fn over(self, other: Self) -> Self {
        Self {
            sent: self.sent.over(other.sent),
            returned: self.returned.over(other.returned),
            missing: self.missing + other.missing,
        }
    }
}

/// One of the two sides of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What was sent.
    Sent,
    /// What came back.
    Returned,
}

/// A run's sound.
pub struct Picture {
    rate: u32,
    channels: u16,
    frame_samples: u32,
    /// Samples a channel sent.
    samples: u64,
    /// Samples a channel in each column.
    width: u64,
    columns: Vec<Column>,
    sent: Clip,
    returned: Clip,
}

impl Picture {
    /// Of a sound of which nothing is known yet, in packets of `frame_samples` samples a channel. As long as a side's bytes, as
    /// 16-bit samples, are not more than `most_bytes` the sound itself is kept.
    pub fn new(rate: u32, channels: u16, frame_samples: u32, most_bytes: usize) -> Self {
        Self {
            rate,
            channels: channels.max(1),
            frame_samples,
            samples: 0,
            width: 1,
            columns: Vec::with_capacity(COLUMNS),
            sent: Clip::new(most_bytes),
            returned: Clip::new(most_bytes),
        }
    }

    /// Takes a packet that was sent.
    pub fn on_sent(&mut self, index: u64, samples: &[f32]) {
        let start = self.start(index);
        let end = start + (samples.len() / usize::from(self.channels)) as u64;
        self.samples = self.samples.max(end);
        self.draw(start, samples, |column| &mut column.sent);
        self.sent.put(start * u64::from(self.channels), samples);
    }

    /// Takes a packet that came back.
    pub fn on_returned(&mut self, index: u64, samples: &[f32]) {
        let start = self.start(index);
        self.draw(start, samples, |column| &mut column.returned);
        self.returned.put(start * u64::from(self.channels), samples);
    }

    /// Takes note of a packet that was sent and did not come back in time. Each is told once.
    pub fn on_missing(&mut self, index: u64) {
        let start = self.start(index);
        // The last packet is a short one.
        let end = (start + u64::from(self.frame_samples)).min(self.samples).max(start);
        self.each_column(start..end, |column, stretch| column.missing += stretch.end - stretch.start);
    }

    fn start(&self, index: u64) -> u64 {
        index.saturating_mul(u64::from(self.frame_samples))
    }

    /// NaN and infinite samples are not drawn.
    fn draw(&mut self, start: u64, samples: &[f32], side: impl Fn(&mut Column) -> &mut Reach) {
        let channels = usize::from(self.channels);
        let end = start + (samples.len() / channels) as u64;
        self.each_column(start..end, |column, stretch| {
            let [from, to] = [stretch.start, stretch.end].map(|at| (at - start) as usize * channels);
            let reach = side(column);
            *reach = samples[from..to]
                .iter()
                .filter(|sample| sample.is_finite())
                .fold(*reach, |reach, sample| reach.over(Reach { least: *sample, most: *sample }));
        });
    }

    /// Does something with each column that these samples lie in, and is told which of them do.
    fn each_column(&mut self, samples: Range<u64>, mut with: impl FnMut(&mut Column, Range<u64>)) {
        self.make_room_for(samples.end);
        let mut at = samples.start;
        while at < samples.end {
            let next = ((at / self.width + 1) * self.width).min(samples.end);
            with(&mut self.columns[(at / self.width) as usize], at..next);
            at = next;
        }
    }

    /// Makes the columns that so many samples from the start lie in.
    fn make_room_for(&mut self, samples: u64) {
        while samples.div_ceil(self.width) > COLUMNS as u64 {
            let half = self.columns.len().div_ceil(2);
            for at in 0..half {
                let second = self.columns.get(2 * at + 1).copied().unwrap_or_default();
                self.columns[at] = self.columns[2 * at].over(second);
            }
            self.columns.truncate(half);
            self.width *= 2;
        }
        let columns = samples.div_ceil(self.width) as usize;
        self.columns.resize(columns.max(self.columns.len()), Column::default());
    }

    /// The columns so far, from the first sample on.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Samples a channel in each column; the last may have less.
    pub fn width(&self) -> u64 {
        self.width
    }

    /// Samples a channel sent.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Samples a second and channel.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Channels, drawn one over the other.
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// One side as a WAV file of 16-bit samples, as long as what was sent: silent where nothing is known. `None`: it is too long.
    pub fn wav(&self, side: Side) -> Option<Vec<u8>> {
        let clip = match side {
            Side::Sent => &self.sent,
            Side::Returned => &self.returned,
        };
        clip.wav(self.rate, self.channels, self.samples)
    }
}
