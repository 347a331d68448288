//! What a sound device offers, and which of it is taken.

use super::device_format::DeviceFormat;

/// One combination that a device can be opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// How it stores a sample.
    pub format: DeviceFormat,
    /// Interleaved channels.
    pub channels: u16,
    /// The lowest and the highest rate in Hz; all between them are offered too.
    pub rates: (u32, u32),
    /// The fewest and the most frames that it can be asked to deliver at a time, where it tells.
    pub buffer: Option<(u32, u32)>,
}

/// What a device is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// How it stores a sample.
    pub format: DeviceFormat,
    /// Interleaved channels.
    pub channels: u16,
    /// Samples a second and channel.
    pub rate: u32,
    /// As [`Offer::buffer`].
    pub buffer: Option<(u32, u32)>,
}

/// The offer that needs the least done to it: as many channels as `wanted` (else two, else one, else the fewest there are), then
/// the rate nearest to `rate`, then the first format of [`DeviceFormat::ALL`].
pub fn choose(offers: &[Offer], wanted: Option<u16>, rate: u32) -> Option<Choice> {
    let by_channels = |channels: u16| match channels {
        channels if Some(channels) == wanted => 0,
        2 => 1,
        1 => 2,
        many => u32::from(many),
    };
    let by_format = |format| DeviceFormat::ALL.iter().position(|one| *one == format);
    let nearest = |offer: &Offer| rate.min(offer.rates.1).max(offer.rates.0);
    let best = offers.iter().min_by_key(|offer| {
        let nearest = nearest(offer);
        // Of two as near the higher, which loses nothing.
        (by_channels(offer.channels), nearest.abs_diff(rate), nearest < rate, by_format(offer.format))
    })?;
    Some(Choice { format: best.format, channels: best.channels, rate: nearest(best), buffer: best.buffer })
}

impl Choice {
    /// How many frames to ask for at a time, if `frames` are wished for: as near to that as the device goes.
    pub fn buffer(&self, frames: u32) -> u32 {
        let (least, most) = self.buffer.unwrap_or((1, u32::MAX));
        frames.min(most).max(least).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(format: DeviceFormat, channels: u16, rates: (u32, u32)) -> Offer {
        Offer { format, channels, rates, buffer: None }
    }

    fn chosen(offers: &[Offer], wanted: Option<u16>) -> Option<(DeviceFormat, u16, u32)> {
        choose(offers, wanted, 48_000).map(|choice| (choice.format, choice.channels, choice.rate))
    }

    #[test]
    fn what_needs_the_least_done_to_it_is_taken() {
        use DeviceFormat::{F32, I16, I24, I32, U8};
        let any = (8_000, 192_000);
        let sound_server = [offer(I16, 1, any), offer(I16, 2, any), offer(F32, 1, any), offer(F32, 2, any)];
        assert_eq!(chosen(&sound_server, None), Some((F32, 2, 48_000)));
        assert_eq!(chosen(&sound_server, Some(1)), Some((F32, 1, 48_000)));
        // A card: no floats, and only what its clock can do.
        let card = [offer(I16, 2, (44_100, 44_100)), offer(I32, 2, (44_100, 44_100)), offer(I16, 2, (48_000, 48_000))];
        assert_eq!(chosen(&card, Some(1)), Some((I16, 2, 48_000)));
        assert_eq!(chosen(&card[..2], None), Some((I32, 2, 44_100)));
        let either = [offer(I16, 1, (44_100, 44_100)), offer(I16, 1, (51_900, 51_900)), offer(U8, 1, (8_000, 8_000))];
        assert_eq!(chosen(&either, Some(2)), Some((I16, 1, 51_900)));
        let many = [offer(I24, 18, any), offer(I24, 8, any)];
        assert_eq!(chosen(&many, None), Some((I24, 8, 48_000)));
        assert_eq!(chosen(&[], None), None);
    }

    #[test]
    fn a_buffer_is_asked_for_within_what_the_device_can_do() {
        let choice = |buffer| Choice { format: DeviceFormat::I16, channels: 1, rate: 48_000, buffer };
        assert_eq!([1, 128, 9_000].map(|frames| choice(Some((32, 4_096))).buffer(frames)), [32, 128, 4_096]);
        assert_eq!([0, 128].map(|frames| choice(None).buffer(frames)), [1, 128]);
    }
}
