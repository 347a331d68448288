//! The list of devices that `devices` prints as text or JSON.

use std::fmt::{Display, Write};

use crate::report::lists::{DeviceList, RateRange};

/// Printed for a device that has no supported format.
pub(crate) const UNKNOWN_FORMAT_HINT: &str = "no supported sample format (packed 24-bit samples, for example, are not supported). Use a device \
                             that converts formats, such as \"default\" or \"plughw:...\" (not \"hw:...\")";

/// Formats the list as text. `unavailable_reason` is printed for a direction that has no devices.
pub(crate) fn device_text(list: &DeviceList, unavailable_reason: &str) -> String {
    let mut text = String::new();
    for (title, devices) in [("input", &list.inputs), ("output", &list.outputs)] {
        if devices.is_empty() {
            // Writing to a `String` cannot fail.
            _ = writeln!(text, "no {title} devices: {unavailable_reason}");
            continue;
        }
        _ = writeln!(text, "{title} devices");
        for device in devices {
            let mark = if device.default { " [default]" } else { "" };
            // Names are untrusted and are printed to a terminal.
            let [id, name] = [&device.id, &device.name].map(|text| text.replace(char::is_control, " "));
            _ = writeln!(text, "{:>4}  {id}{mark}: {name}", device.index);
            let (channels, rates) = (format_channels(&device.channels), format_rates(&device.rates_hz));
            _ = match &device.formats[..] {
                [] => writeln!(text, "      {UNKNOWN_FORMAT_HINT}"),
                formats => writeln!(text, "      {channels}; {rates}; {}", formats.join(", ")),
            };
        }
    }
    text
}

/// Formats channel counts: `1 to 2, 6 channels`.
fn format_channels(counts: &[u16]) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for count in counts {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *count => *last = *count,
            _ => ranges.push((*count, *count)),
        }
    }
    let ranges: Vec<String> = ranges.into_iter().map(|(first, last)| format_range(first, last)).collect();
    format!("{} channel{}", ranges.join(", "), if counts == [1] { "" } else { "s" })
}

/// Formats sample rates: `44100, 48000 to 96000 Hz`.
fn format_rates(rates: &[RateRange]) -> String {
    let rates: Vec<String> = rates.iter().map(|rates| format_range(rates.from, rates.to)).collect();
    format!("{} Hz", rates.join(", "))
}

fn format_range<T: Copy + PartialEq + Display>(first: T, last: T) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::lists::DeviceInfo;

    fn sound_card() -> DeviceInfo {
        DeviceInfo {
            index: 0,
            id: "hw:CARD=0,DEV=0".to_owned(),
            name: "A\u{1b}[2JCard".to_owned(),
            default: false,
            formats: vec!["I32", "I16"],
            channels: vec![2],
            rates_hz: vec![RateRange { from: 44_100, to: 44_100 }, RateRange { from: 48_000, to: 48_000 }],
        }
    }

    #[test]
    fn device_list_text_shows_number_name_and_formats() {
        let default = DeviceInfo {
            index: 0,
            id: "default".to_owned(),
            name: "Sound server".to_owned(),
            default: true,
            formats: vec!["F32"],
            channels: vec![1, 2, 3, 6],
            rates_hz: vec![RateRange { from: 8_000, to: 192_000 }],
        };
        let microphone = DeviceInfo { index: 1, channels: vec![1], ..sound_card() };
        let unsupported = DeviceInfo {
            index: 2,
            id: "hw:1".to_owned(),
            formats: vec![],
            channels: vec![],
            rates_hz: vec![],
            ..sound_card()
        };
        let devices =
            DeviceList { inputs: vec![default, microphone, unsupported], outputs: vec![], unavailable_reason: None };
        let expected = "input devices
   0  default [default]: Sound server
      1 to 3, 6 channels; 8000 to 192000 Hz; F32
   1  hw:CARD=0,DEV=0: A [2JCard
      1 channel; 44100, 48000 Hz; I32, I16
   2  hw:1: A [2JCard
      no supported sample format (packed 24-bit samples, for example, are not supported). Use a device that converts formats, such as \
\"default\" or \"plughw:...\" (not \"hw:...\")
no output devices: no driver
";
        assert_eq!(device_text(&devices, "no driver"), expected);
    }
}
