//! How loud sound is, and whether it was too loud for what made it.

/// From here on a sample is at full scale: the largest of a 16-bit converter.
pub const FULL_SCALE: f32 = 32_767.0 / 32_768.0;

/// So many samples at full scale in a row are clipped: a peak that just reaches it has one, or two.
pub const CLIPPED: u64 = 3;

/// How loud one channel was. A sine at full scale has a `peak` of 1 and a mean square of 0.5.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Level {
    /// Samples that are numbers.
    pub samples: u64,
    /// Those that are none, or are infinite: they are in nothing else.
    pub not_numbers: u64,
    /// The largest magnitude.
    pub peak: f32,
    /// The mean of the squares; 0 without samples.
    pub mean_square: f64,
    /// Stretches of at least [`CLIPPED`] samples at full scale.
    pub clips: u64,
    /// Samples in them.
    pub clipped: u64,
    /// Where the first of them begins, in samples from the first that was sent.
    pub first_clip: Option<u64>,
}

/// Measures a channel.
#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    level: Level,
    squares: f64,
    /// Samples at full scale that end where the last packet ended.
    run: u64,
}

impl Channel {
    fn hear(&mut self, place: u64, sample: f32) {
        if !sample.is_finite() {
            self.level.not_numbers += 1;
            self.run = 0;
            return;
        }
        self.level.samples += 1;
        self.level.peak = self.level.peak.max(sample.abs());
        self.squares += f64::from(sample) * f64::from(sample);
        if sample.abs() < FULL_SCALE {
            self.run = 0;
            return;
        }
        self.run += 1;
        if self.run == CLIPPED {
            let start = place + 1 - CLIPPED;
            self.level.clips += 1;
            self.level.clipped += CLIPPED;
            self.level.first_clip = Some(self.level.first_clip.map_or(start, |first| first.min(start)));
        } else if self.run > CLIPPED {
            self.level.clipped += 1;
        }
    }

    fn level(&self) -> Level {
        let mean_square = if self.level.samples > 0 { self.squares / self.level.samples as f64 } else { 0.0 };
        Level { mean_square, ..self.level }
    }
}

/// Measures all channels of one side.
#[derive(Debug)]
pub(super) struct Meter {
    channels: Vec<Channel>,
    /// Where the next packet begins, if it is the next.
    next: u64,
    /// The stretch of zeros that ends there, and the longest so far.
    zeros: u64,
    longest: u64,
}

impl Meter {
    pub(super) fn new(channels: u16) -> Self {
        let channels = vec![Channel::default(); usize::from(channels.max(1))];
        Self { channels, next: 0, zeros: 0, longest: 0 }
    }

    /// Interleaved samples, the first of them at `place`. What belongs together is looked for across packets that come one after the other.
    pub(super) fn hear(&mut self, place: u64, samples: &[f32]) {
        if place != self.next {
            self.zeros = 0;
            self.channels.iter_mut().for_each(|channel| channel.run = 0);
        }
        let mut at = place;
        for frame in samples.chunks_exact(self.channels.len()) {
            for (channel, sample) in self.channels.iter_mut().zip(frame) {
                channel.hear(at, *sample);
            }
            self.zeros = if frame.iter().all(|sample| *sample == 0.0) { self.zeros + 1 } else { 0 };
            self.longest = self.longest.max(self.zeros);
            at += 1;
        }
        self.next = at;
    }

    /// Samples of the first channel, numbers or not.
    pub(super) fn samples(&self) -> u64 {
        self.channels.first().map_or(0, |channel| channel.level.samples + channel.level.not_numbers)
    }

    pub(super) fn longest_silence(&self) -> u64 {
        self.longest
    }

    pub(super) fn levels(&self) -> Vec<Level> {
        self.channels.iter().map(Channel::level).collect()
    }
}
