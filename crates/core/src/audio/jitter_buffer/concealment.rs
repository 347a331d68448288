//! Conceals missing audio: the last frames are repeated backwards and faded out, and then the next audio is faded in. The output has no step,
//! but the gap remains audible.

/// The fade-out takes 1/200 s.
pub(super) const FADE_OUT_DIVISOR: u32 = 200;

/// The fade-in takes 1/750 s.
const FADE_IN_DIVISOR: u32 = 750;

/// State of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConcealmentState {
    /// Received frames are played unchanged.
    Playing,
    /// Number of frames since the audio stopped.
    Concealing(usize),
    /// Number of frames since the audio stopped, and since it resumed.
    FadingIn(usize, usize),
}

/// Builds blocks of output frames.
#[derive(Debug)]
pub(super) struct Concealment {
    channels: usize,
    fade_out_frames: usize,
    fade_in_frames: usize,
    /// The last frames of the previous block, then the current block.
    frames: Vec<f32>,
    /// Number of valid samples in `frames`.
    end: usize,
    /// The last frames before the audio stopped, in reverse order.
    reversed_tail: Vec<f32>,
    state: ConcealmentState,
}

impl Concealment {
    /// Creates a builder of blocks of at most `max_block` frames.
    pub(super) fn new(rate: u32, channels: usize, max_block: usize) -> Self {
        let fade_out_frames = (rate / FADE_OUT_DIVISOR).max(1) as usize;
        Self {
            channels,
            fade_out_frames,
            fade_in_frames: (rate / FADE_IN_DIVISOR).max(1) as usize,
            frames: vec![0.0; (fade_out_frames + max_block) * channels],
            end: fade_out_frames * channels,
            reversed_tail: vec![0.0; fade_out_frames * channels],
            state: ConcealmentState::Playing,
        }
    }

    pub(super) fn start_block(&mut self) {
        let kept = self.fade_out_frames * self.channels;
        self.frames.copy_within(self.end - kept..self.end, 0);
        self.end = kept;
    }

    /// Returns the first `frames` frames of the block.
    pub(super) fn block(&self, frames: usize) -> &[f32] {
        &self.frames[self.fade_out_frames * self.channels..][..frames * self.channels]
    }

    /// Adds silence before the start of the audio.
    pub(super) fn push_silence(&mut self, frames: usize) {
        self.reserve(frames * self.channels).fill(0.0);
    }

    /// Adds frames that replace missing audio.
    pub(super) fn push_concealed(&mut self, frames: usize) {
        let mut elapsed = match self.state {
            ConcealmentState::Concealing(elapsed) => elapsed,
            ConcealmentState::Playing | ConcealmentState::FadingIn(..) => {
                self.save_tail();
                0
            }
        };
        for _ in 0..frames {
            self.push_frame(|this, channel| this.concealed_sample(elapsed, channel));
            elapsed += 1;
        }
        self.state = ConcealmentState::Concealing(elapsed);
    }

    /// Marks a jump in the audio: the next samples fade in.
    pub(super) fn mark_discontinuity(&mut self) {
        if !matches!(self.state, ConcealmentState::Concealing(_)) {
            self.save_tail();
            self.state = ConcealmentState::Concealing(0);
        }
    }

    /// Adds received samples.
    pub(super) fn push_samples(&mut self, mut samples: &[f32]) {
        while !samples.is_empty() {
            let (elapsed, resumed) = match self.state {
                ConcealmentState::Playing => break,
                ConcealmentState::Concealing(elapsed) => (elapsed, 0),
                ConcealmentState::FadingIn(elapsed, resumed) => (elapsed, resumed),
            };
            let weight = (resumed + 1) as f32 / (self.fade_in_frames + 1) as f32;
            let (frame, rest) = samples.split_at(self.channels);
            self.push_frame(|this, channel| {
                let fading = this.concealed_sample(elapsed, channel);
                fading + weight * (frame[channel] - fading)
            });
            samples = rest;
            self.state = if resumed + 1 == self.fade_in_frames {
                ConcealmentState::Playing
            } else {
                ConcealmentState::FadingIn(elapsed + 1, resumed + 1)
            };
        }
        self.reserve(samples.len()).copy_from_slice(samples);
    }

    fn save_tail(&mut self) {
        let before = &self.frames[self.end - self.fade_out_frames * self.channels..self.end];
        let backwards = before.chunks_exact(self.channels).rev();
        self.reversed_tail
            .chunks_exact_mut(self.channels)
            .zip(backwards)
            .for_each(|(to, from)| to.copy_from_slice(from));
    }

    /// Returns a sample of the fade-out. `elapsed` is the number of frames since the audio stopped.
    fn concealed_sample(&self, elapsed: usize, channel: usize) -> f32 {
        let left = self.fade_out_frames.saturating_sub(elapsed) as f32 / self.fade_out_frames as f32;
        self.reversed_tail.get(elapsed * self.channels + channel).map_or(0.0, |sample| sample * left)
    }

    fn push_frame(&mut self, sample: impl Fn(&Self, usize) -> f32) {
        for channel in 0..self.channels {
            self.frames[self.end] = sample(self, channel);
            self.end += 1;
        }
    }

    fn reserve(&mut self, samples: usize) -> &mut [f32] {
        let start = self.end;
        self.end += samples;
        &mut self.frames[start..self.end]
    }
}
