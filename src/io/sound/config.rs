//! The configuration in which a device is opened: the supported one that needs the least conversion.

use crate::audio::sample_format::DeviceSampleFormat;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SupportedConfig {
    pub format: DeviceSampleFormat,
    pub channels: u16,
    /// Lowest and highest sample rate in Hz. All rates in this range are supported.
    pub rate_range: (u32, u32),
    /// Minimum and maximum buffer size in frames, if the device reports them.
    pub buffer_range: Option<(u32, u32)>,
}

/// The configuration a device is opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceConfig {
    pub format: DeviceSampleFormat,
    pub channels: u16,
    pub rate: u32,
    /// See [`SupportedConfig::buffer_range`].
    pub buffer_range: Option<(u32, u32)>,
}

/// Selects the configuration that needs the least conversion: by the number of channels (preferably 2, then 1, then the smallest), then by the
/// distance to `rate`, and last by the order of [`DeviceSampleFormat::ALL`]. `None` if `supported` is empty.
pub(crate) fn select_config(supported: &[SupportedConfig], rate: u32) -> Option<DeviceConfig> {
    let format_rank = |format| DeviceSampleFormat::ALL.iter().position(|other| *other == format);
    let nearest_rate = |config: &SupportedConfig| rate.min(config.rate_range.1).max(config.rate_range.0);
    let best = supported.iter().min_by_key(|config| {
        let nearest = nearest_rate(config);
        // Of two equally near rates the higher one wins, because it loses no high frequencies.
        let distance = (nearest.abs_diff(rate), nearest < rate);
        (config.channels != 2, config.channels, distance, format_rank(config.format))
    })?;
    Some(DeviceConfig {
        format: best.format,
        channels: best.channels,
        rate: nearest_rate(best),
        buffer_range: best.buffer_range,
    })
}

impl DeviceConfig {
    /// Limits the buffer size `frames` to the range of the device.
    pub(crate) fn clamp_buffer(&self, frames: u32) -> u32 {
        let (min, max) = self.buffer_range.unwrap_or((1, u32::MAX));
        frames.min(max).max(min).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(name: &str) -> DeviceSampleFormat {
        DeviceSampleFormat::by_name(name).expect("a format")
    }

    fn supported_config(format: DeviceSampleFormat, channels: u16, rate_range: (u32, u32)) -> SupportedConfig {
        SupportedConfig { format, channels, rate_range, buffer_range: None }
    }

    fn selected(supported: &[SupportedConfig]) -> Option<(DeviceSampleFormat, u16, u32)> {
        select_config(supported, 48_000).map(|config| (config.format, config.channels, config.rate))
    }

    #[test]
    fn config_with_the_least_conversion_is_selected() {
        let any = (8_000, 192_000);
        let sound_server = [
            supported_config(format("I16"), 1, any),
            supported_config(format("I16"), 2, any),
            supported_config(format("F32"), 1, any),
            supported_config(format("F32"), 2, any),
        ];
        assert_eq!(selected(&sound_server), Some((format("F32"), 2, 48_000)));
        // A sound card that supports only integers and fixed rates.
        let card = [
            supported_config(format("I16"), 2, (44_100, 44_100)),
            supported_config(format("I32"), 2, (44_100, 44_100)),
            supported_config(format("I16"), 2, (48_000, 48_000)),
        ];
        assert_eq!(selected(&card), Some((format("I16"), 2, 48_000)));
        assert_eq!(selected(&card[..2]), Some((format("I32"), 2, 44_100)));
        let either = [
            supported_config(format("I16"), 1, (44_100, 44_100)),
            supported_config(format("I16"), 1, (51_900, 51_900)),
            supported_config(format("U8"), 1, (8_000, 8_000)),
        ];
        assert_eq!(selected(&either), Some((format("I16"), 1, 51_900)));
        let many = [supported_config(format("I24"), 18, any), supported_config(format("I24"), 8, any)];
        assert_eq!(selected(&many), Some((format("I24"), 8, 48_000)));
        assert_eq!(selected(&[]), None);
    }

    #[test]
    fn buffer_size_is_clamped_to_the_device_range() {
        let config = |buffer_range| DeviceConfig { format: format("I16"), channels: 1, rate: 48_000, buffer_range };
        assert_eq!([1, 128, 9_000].map(|frames| config(Some((32, 4_096))).clamp_buffer(frames)), [32, 128, 4_096]);
        assert_eq!([0, 128].map(|frames| config(None).clamp_buffer(frames)), [1, 128]);
    }
}
