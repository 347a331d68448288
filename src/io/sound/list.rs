//! The list of devices that `devices` prints as text or JSON.

use std::fmt::{Display, Write};

use serde::Serialize;
use serde_json::{Value, json};

/// Incremented when a field of the JSON document is removed or changes its meaning.
const SCHEMA_VERSION: u32 = 1;

/// Printed for a device that has no supported format.
pub(crate) const UNKNOWN_FORMAT_HINT: &str = "no supported sample format (packed 24-bit samples, for example, are not supported). Use a device \
                             that converts formats, such as \"default\" or \"plughw:...\" (not \"hw:...\")";

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DeviceInfo {
    /// Position in the list of inputs or the list of outputs, which selects the device on the command line.
    pub index: usize,
    /// Identifier that the system assigns; unique within the list of inputs or the list of outputs.
    pub id: String,
    pub name: String,
    #[serde(rename = "default")]
    pub is_default: bool,
    pub formats: Vec<&'static str>,
    /// Supported numbers of channels, ascending.
    pub channels: Vec<u16>,
    /// Supported sample rates, ascending.
    pub rates_hz: Vec<RateRange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct RateRange {
    pub from: u32,
    pub to: u32,
}

/// All devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceList {
    /// Microphones and other inputs.
    pub inputs: Vec<DeviceInfo>,
    /// Loudspeakers and other outputs.
    pub outputs: Vec<DeviceInfo>,
}

impl DeviceList {
    /// Formats the list as text. `unavailable_reason` is printed for a direction that has no devices.
    pub(crate) fn to_text(&self, unavailable_reason: &str) -> String {
        let mut text = String::new();
        for (title, devices) in [("input", &self.inputs), ("output", &self.outputs)] {
            if devices.is_empty() {
                // Writing to a `String` cannot fail.
                _ = writeln!(text, "no {title} devices: {unavailable_reason}");
                continue;
            }
            _ = writeln!(text, "{title} devices");
            for device in devices {
                let mark = if device.is_default { " [default]" } else { "" };
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

    /// The list as a JSON document (`docs/devices.schema.json`).
    pub(crate) fn to_json(&self, unavailable_reason: &str) -> Value {
        let Self { inputs, outputs } = self;
        json!({
            "type": "devices",
            "schema_version": SCHEMA_VERSION,
            "tool_version": env!("CARGO_PKG_VERSION"),
            "inputs": inputs,
            "outputs": outputs,
            "unavailable_reason": (inputs.is_empty() || outputs.is_empty()).then_some(unavailable_reason),
        })
    }
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

    fn sound_card() -> DeviceInfo {
        DeviceInfo {
            index: 0,
            id: "hw:CARD=0,DEV=0".to_owned(),
            name: "A\u{1b}[2JCard".to_owned(),
            is_default: false,
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
            is_default: true,
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
        let devices = DeviceList { inputs: vec![default, microphone, unsupported], outputs: vec![] };
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
        assert_eq!(devices.to_text("no driver"), expected);
    }

    #[test]
    fn device_list_json_matches_the_schema() {
        let devices = DeviceList { inputs: vec![sound_card()], outputs: vec![] };
        let document = devices.to_json("no driver").to_string();
        let (head, rest) = document.split_once(r#""tool_version":"#).unwrap();
        assert_eq!(head, r#"{"type":"devices","schema_version":1,"#);
        let (_, rest) = rest.split_once(',').unwrap();
        let expected = concat!(
            r#""inputs":[{"index":0,"id":"hw:CARD=0,DEV=0","name":"A\u001b[2JCard","default":false,"formats":["I32","I16"],"#,
            r#""channels":[2],"rates_hz":[{"from":44100,"to":44100},{"from":48000,"to":48000}]}],"outputs":[],"#,
            r#""unavailable_reason":"no driver"}"#
        );
        assert_eq!(rest, expected);
        let both = DeviceList { outputs: vec![sound_card()], ..devices };
        assert!(both.to_json("").to_string().ends_with(r#""unavailable_reason":null}"#));
    }
}
