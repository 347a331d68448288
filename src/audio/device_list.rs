//! The sound devices of a machine as a person or a program reads them.

use std::fmt::Write;

use serde::Serialize;

/// Raised when a field of the document changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

/// Said of a device whose formats are all unknown here, with the way out.
pub const NO_FORMAT: &str = "its samples are in no format that is known here (24 bits in three bytes, for one): take a device that converts \
                             them, such as plughw:... in place of hw:..., or default";

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// What the system calls it; no two of a direction are called the same.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Whether it is used where none is named.
    #[serde(rename = "default")]
    pub is_default: bool,
    /// How it can store samples, as far as is known here.
    pub formats: Vec<&'static str>,
    /// How many channels it can have, in rising order.
    pub channels: Vec<u16>,
    /// The rates in Hz that it can have, in rising order.
    pub rates_hz: Vec<Rates>,
}

/// Rates from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Rates {
    /// The lowest, in Hz.
    pub from: u32,
    /// The highest, in Hz.
    pub to: u32,
}

/// The devices there are. One's place is its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Those that sound comes from.
    pub inputs: Vec<Listed>,
    /// Those that sound goes to.
    pub outputs: Vec<Listed>,
}

impl Devices {
    /// A few lines a device. `why_none` is said where there are none.
    pub fn table(&self, why_none: &str) -> String {
        let mut text = String::new();
        for (title, devices) in [("input", &self.inputs), ("output", &self.outputs)] {
            if devices.is_empty() {
                // Writing to a string cannot fail.
                _ = writeln!(text, "no {title} devices: {why_none}");
                continue;
            }
            _ = writeln!(text, "{title} devices");
            for (number, device) in devices.iter().enumerate() {
                let mark = if device.is_default { " [default]" } else { "" };
                let [id, name] = [&device.id, &device.name].map(|text| harmless(text));
                _ = writeln!(text, "{number:>4}  {id}{mark}: {name}");
                let Listed { channels: counts, rates_hz, formats, .. } = device;
                _ = match formats[..] {
                    [] => writeln!(text, "      {NO_FORMAT}"),
                    _ => writeln!(text, "      {}; {}; {}", channels(counts), rates(rates_hz), formats.join(", ")),
                };
            }
        }
        text
    }

    /// One JSON document, `docs/devices.schema.json`: over many lines, or on one.
    pub fn document(&self, why_none: &str, on_one_line: bool) -> serde_json::Result<String> {
        let Self { inputs, outputs } = self;
        let document = Document {
            kind: "devices",
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION"),
            inputs: numbered(inputs),
            outputs: numbered(outputs),
            why_none: (inputs.is_empty() || outputs.is_empty()).then_some(why_none),
        };
        if on_one_line { serde_json::to_string(&document) } else { serde_json::to_string_pretty(&document) }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema_version: u32,
    tool_version: &'static str,
    inputs: Vec<Numbered<'a>>,
    outputs: Vec<Numbered<'a>>,
    why_none: Option<&'a str>,
}

#[derive(Serialize)]
struct Numbered<'a> {
    number: usize,
    #[serde(flatten)]
    device: &'a Listed,
}

fn numbered(devices: &[Listed]) -> Vec<Numbered<'_>> {
    devices.iter().enumerate().map(|(number, device)| Numbered { number, device }).collect()
}

/// `1 to 2, 6 channels`.
fn channels(counts: &[u16]) -> String {
    let mut rows: Vec<(u16, u16)> = Vec::new();
    for count in counts {
        match rows.last_mut() {
            Some((_, last)) if *last + 1 == *count => *last = *count,
            _ => rows.push((*count, *count)),
        }
    }
    let rows: Vec<String> = rows.into_iter().map(|(first, last)| span(first, last)).collect();
    format!("{} channel{}", rows.join(", "), if counts == [1] { "" } else { "s" })
}

/// `44100, 48000 to 96000 Hz`.
fn rates(rates: &[Rates]) -> String {
    let rates: Vec<String> = rates.iter().map(|rates| span(rates.from, rates.to)).collect();
    format!("{} Hz", rates.join(", "))
}

fn span<T: Copy + PartialEq + std::fmt::Display>(first: T, last: T) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}

/// A name as a terminal may see it: a device calls itself what it likes.
fn harmless(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Listed {
        Listed {
            id: "hw:CARD=0,DEV=0".to_owned(),
            name: "A\u{1b}[2JCard".to_owned(),
            is_default: false,
            formats: vec!["I32", "I16"],
            channels: vec![2],
            rates_hz: vec![Rates { from: 44_100, to: 44_100 }, Rates { from: 48_000, to: 48_000 }],
        }
    }

    #[test]
    fn a_person_reads_number_names_and_what_each_device_can_do() {
        let default = Listed {
            id: "default".to_owned(),
            name: "Sound server".to_owned(),
            is_default: true,
            formats: vec!["F32"],
            channels: vec![1, 2, 3, 6],
            rates_hz: vec![Rates { from: 8_000, to: 192_000 }],
        };
        let microphone = Listed { channels: vec![1], ..card() };
        let strange = Listed { id: "hw:1".to_owned(), formats: vec![], channels: vec![], rates_hz: vec![], ..card() };
        let devices = Devices { inputs: vec![default, microphone, strange], outputs: vec![] };
        let expected = "input devices
   0  default [default]: Sound server
      1 to 3, 6 channels; 8000 to 192000 Hz; F32
   1  hw:CARD=0,DEV=0: A [2JCard
      1 channel; 44100, 48000 Hz; I32, I16
   2  hw:1: A [2JCard
      its samples are in no format that is known here (24 bits in three bytes, for one): take a device that converts them, such as plughw:... \
in place of hw:..., or default
no output devices: nobody knows
";
        assert_eq!(devices.table("nobody knows"), expected);
    }

    #[test]
    fn a_program_reads_the_same() {
        let devices = Devices { inputs: vec![card()], outputs: vec![] };
        let document = devices.document("nobody knows", true).unwrap();
        let (head, rest) = document.split_once(r#""tool_version":"#).unwrap();
        assert_eq!(head, r#"{"type":"devices","schema_version":1,"#);
        let (_, rest) = rest.split_once(',').unwrap();
        let expected = concat!(
            r#""inputs":[{"number":0,"id":"hw:CARD=0,DEV=0","name":"A\u001b[2JCard","default":false,"formats":["I32","I16"],"#,
            r#""channels":[2],"rates_hz":[{"from":44100,"to":44100},{"from":48000,"to":48000}]}],"outputs":[],"#,
            r#""why_none":"nobody knows"}"#
        );
        assert_eq!(rest, expected);
        let both = Devices { outputs: vec![card()], ..devices };
        assert!(both.document("", true).unwrap().ends_with(r#""why_none":null}"#));
    }
}
