//! From any number of channels to one or two.

/// How many channels leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// One channel.
    Mono,
    /// Two channels, left first.
    Stereo,
}

impl Channels {
    /// 1 or 2.
    pub const fn count(self) -> u16 {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }

    /// What a source of `channels` channels is sent as when nobody asks: mono stays mono, all else is stereo.
    pub const fn natural(channels: u16) -> Self {
        if channels == 1 { Self::Mono } else { Self::Stereo }
    }
}

/// Mixes interleaved frames up or down.
///
/// - the same number of channels: copied bit for bit;
/// - mono to stereo: the sample on both sides;
/// - to mono: the average of all channels, where a sample that is NaN or infinite counts as 0;
/// - more than two to stereo: left is the average of channels 0, 2, 4, …, right of 1, 3, 5, …. That keeps the front
///   pair of every layout apart, cannot clip, and needs no knowledge of speaker positions, which files rarely tell.
#[derive(Clone, Copy, Debug)]
pub struct Mixer {
    inputs: usize,
    output: Channels,
}

impl Mixer {
    /// From `inputs` channels (at least 1) to `output`.
    pub fn new(inputs: u16, output: Channels) -> Self {
        Self { inputs: usize::from(inputs.max(1)), output }
    }

    /// True if frames pass unchanged.
    pub fn is_identity(&self) -> bool {
        self.inputs == usize::from(self.output.count())
    }

    /// True if samples are only copied, with every bit, and none is computed.
    pub fn is_copy(&self) -> bool {
        self.inputs <= usize::from(self.output.count())
    }

    /// Appends the mix of `frames` to `out`. An incomplete frame at the end is ignored.
    pub fn mix(&self, frames: &[f32], out: &mut Vec<f32>) {
        let frames = frames.chunks_exact(self.inputs);
        match (self.output, self.inputs) {
            (Channels::Mono, 1) | (Channels::Stereo, 2) => out.extend(frames.flatten()),
            (Channels::Mono, _) => out.extend(frames.map(|frame| average(frame, 0, 1))),
            (Channels::Stereo, 1) => out.extend(frames.flat_map(|frame| [frame[0], frame[0]])),
            (Channels::Stereo, _) => out.extend(frames.flat_map(|frame| [average(frame, 0, 2), average(frame, 1, 2)])),
        }
    }
}

/// The average of every `step`th sample from `first` on, rounded once.
fn average(frame: &[f32], first: usize, step: usize) -> f32 {
    let picked = frame.iter().skip(first).step_by(step);
    let count = picked.len();
    let finite = picked.map(|sample| if sample.is_finite() { f64::from(*sample) } else { 0.0 });
    (finite.sum::<f64>() / count as f64) as f32
}

/// `frames` of one or two channels for a device of `channels`: mono on its first two, stereo on the first two or, as the mean of
/// both, on the only one; the others are silent.
pub fn fan_out(frames: &[f32], of: Channels, channels: u16) -> impl Iterator<Item = f32> + '_ {
    frames.chunks_exact(usize::from(of.count())).flat_map(move |frame| {
        (0..channels).map(move |channel| match (of, channel) {
            (Channels::Stereo, 0) if channels == 1 => f32::midpoint(frame[0], frame[1]),
            (Channels::Mono, 0 | 1) | (Channels::Stereo, 0) => frame[0],
            (Channels::Stereo, 1) => frame[1],
            _ => 0.0,
        })
    })
}
