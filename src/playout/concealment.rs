//! What is heard where sound breaks off, for a packet is missing or nothing more was sent: what was played last, backwards and fading
//! to silence; then what comes is faded in. So there is no step in the sound, and a gap is heard as what it is.

/// How long the fading sound lasts, in parts of a second.
pub(super) const FADES_OUT: u32 = 200;

/// How long what comes after a gap takes to be there whole, in parts of a second.
const FADES_IN: u32 = 750;

/// Where the sound is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    /// As it came.
    Whole,
    /// So many frames after it broke off.
    Gone(usize),
    /// So many frames after it broke off, and so many after it was back.
    Back(usize, usize),
}

/// Frames on their way to the device.
#[derive(Debug)]
pub(super) struct Concealment {
    channels: usize,
    fades_out: usize,
    fades_in: usize,
    /// What was played last, then what is taken now.
    frames: Vec<f32>,
    /// Samples in it.
    end: usize,
    /// What was played before the sound broke off, backwards.
    echo: Vec<f32>,
    now: Now,
}

impl Concealment {
    /// For at most `most` frames at a time.
    pub(super) fn new(rate: u32, channels: usize, most: usize) -> Self {
        let fades_out = (rate / FADES_OUT).max(1) as usize;
        Self {
            channels,
            fades_out,
            fades_in: (rate / FADES_IN).max(1) as usize,
            frames: vec![0.0; (fades_out + most) * channels],
            end: fades_out * channels,
            echo: vec![0.0; fades_out * channels],
            now: Now::Whole,
        }
    }

    /// Begins to take frames, after those that were taken before.
    pub(super) fn begin(&mut self) {
        let kept = self.fades_out * self.channels;
        self.frames.copy_within(self.end - kept..self.end, 0);
        self.end = kept;
    }

    /// The `frames` frames that were taken.
    pub(super) fn taken(&self, frames: usize) -> &[f32] {
        &self.frames[self.fades_out * self.channels..][..frames * self.channels]
    }

    /// Frames before the sound begins.
    pub(super) fn silence(&mut self, frames: usize) {
        self.next(frames * self.channels).fill(0.0);
    }

    /// Frames that are not there.
    pub(super) fn conceal(&mut self, frames: usize) {
        let mut gone = match self.now {
            Now::Gone(gone) => gone,
            Now::Whole | Now::Back(..) => {
                self.keep_echo();
                0
            }
        };
        for _ in 0..frames {
            self.put(|this, channel| this.fading(gone, channel));
            gone += 1;
        }
        self.now = Now::Gone(gone);
    }

    /// What follows is not what would have followed.
    pub(super) fn cut(&mut self) {
        if !matches!(self.now, Now::Gone(_)) {
            self.keep_echo();
            self.now = Now::Gone(0);
        }
    }

    /// Frames as they came.
    pub(super) fn play(&mut self, samples: &[f32]) {
        let mut samples = samples;
        while let (Now::Gone(_) | Now::Back(..), false) = (self.now, samples.is_empty()) {
            let (gone, back) = match self.now {
                Now::Back(gone, back) => (gone, back),
                Now::Gone(gone) => (gone, 0),
                Now::Whole => break,
            };
            let weight = (back + 1) as f32 / (self.fades_in + 1) as f32;
            let (frame, rest) = samples.split_at(self.channels);
            self.put(|this, channel| {
                let fading = this.fading(gone, channel);
                fading + weight * (frame[channel] - fading)
            });
            samples = rest;
            self.now = if back + 1 == self.fades_in { Now::Whole } else { Now::Back(gone + 1, back + 1) };
        }
        self.next(samples.len()).copy_from_slice(samples);
    }

    fn keep_echo(&mut self) {
        let before = &self.frames[self.end - self.fades_out * self.channels..self.end];
        let backwards = before.chunks_exact(self.channels).rev();
        self.echo.chunks_exact_mut(self.channels).zip(backwards).for_each(|(to, from)| to.copy_from_slice(from));
    }

    /// What is left of the sound so many frames after it broke off.
    fn fading(&self, gone: usize, channel: usize) -> f32 {
        let left = self.fades_out.saturating_sub(gone) as f32 / self.fades_out as f32;
        self.echo.get(gone * self.channels + channel).map_or(0.0, |sample| sample * left)
    }

    fn put(&mut self, sample: impl Fn(&Self, usize) -> f32) {
        for channel in 0..self.channels {
            self.frames[self.end] = sample(self, channel);
            self.end += 1;
        }
    }

    fn next(&mut self, samples: usize) -> &mut [f32] {
        let start = self.end;
        self.end += samples;
        &mut self.frames[start..self.end]
    }
}
