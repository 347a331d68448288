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

    #[test]
    fn device_list_text_shows_number_name_and_formats() {
        let device = |index, id: &str, formats: &[&'static str], channels: &[u16], rates: &[(u32, u32)]| DeviceInfo {
            index,
            id: id.to_owned(),
            name: "A\u{1b}[2JCard".to_owned(),
            default: index == 0,
            formats: formats.into(),
            channels: channels.into(),
            rates_hz: rates.iter().map(|(from, to)| RateRange { from: *from, to: *to }).collect(),
        };
        let inputs = vec![
            device(0, "default", &["F32"], &[1, 2, 3, 6], &[(8_000, 192_000)]),
            device(1, "hw:CARD=0,DEV=0", &["I32", "I16"], &[1], &[(44_100, 44_100), (48_000, 48_000)]),
            device(2, "hw:1", &[], &[], &[]),
        ];
        let devices = DeviceList { inputs, outputs: vec![], unavailable_reason: None };
        let expected = "input devices
   0  default [default]: A [2JCard
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
