//! The hub's messages to each connection. For the comparison, each message is reduced to its type and its marks. A mark is a unique string
//! (`m…x`) that the simulation puts into a text to identify it.

use jamjam_signaling::{ConnId, ControlSurfaceEvent, EventSink};
use serde_json::Value;

/// All messages and events caused by one action.
#[derive(Default)]
pub(crate) struct ReceivedMessages {
    pub(crate) delivered: Vec<(ConnId, Value)>,
    pub(crate) closed: Vec<(ConnId, u16)>,
    pub(crate) cut: Vec<ConnId>,
    pub(crate) pinged: Vec<ConnId>,
    pub(crate) events: Vec<ControlSurfaceEvent>,
}

impl EventSink for ReceivedMessages {
    fn send(&mut self, to: &[ConnId], text: String) {
        let message: Value = serde_json::from_str(&text).expect("JSON");
        self.delivered.extend(to.iter().map(|conn| (*conn, message.clone())));
    }

    fn control_surface_event(&mut self, event: ControlSurfaceEvent) {
        self.events.push(event);
    }

    fn close(&mut self, conn: ConnId, code: u16, _: &str) {
        self.closed.push((conn, code));
    }

    fn ping(&mut self, conn: ConnId) {
        self.pinged.push(conn);
    }

    fn abort(&mut self, conn: ConnId) {
        self.cut.push(conn);
    }
}

/// Finds the marks in a text. A mark is an identifier such as `m17x` (`m`, digits, `x`). The simulation writes marks into names and
/// messages in order to recognize them in received messages.
pub(crate) fn marks(text: &str) -> Vec<String> {
    let mut marks = Vec::new();
    for (at, _) in text.match_indices('m') {
        let digits = text[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && text[at + 1 + digits..].starts_with('x') {
            marks.push(text[at..at + digits + 2].to_owned());
        }
    }
    marks
}

/// The short form of a message: the message type `kind` and the sorted marks from `parts`. [`marks`] defines a mark.
pub(crate) fn delivered<'a>(kind: &str, parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut text_kind: Vec<String> = parts.into_iter().flat_map(marks).collect();
    text_kind.sort();
    text_kind.insert(0, kind.to_owned());
    text_kind.join(" ")
}

/// The short form of a received message. Numeric values are included with their names.
pub(crate) fn observed(message: &Value) -> String {
    let kind = message["type"].as_str().unwrap_or(if message.get("rc").is_some() { "rc" } else { "?" });
    let number = |value: &Value| value.as_f64().map_or(f32::NAN, |value| value as f32);
    let kind = match kind {
        "update" => format!("update {}={}", message["param"], number(&message["value"])),
        "visualization" => format!("visualization {}", number(&message["data"][0])),
        "state" => {
            let shown = message["params"].as_array().into_iter().flatten().map(|shown| {
                let [value, min, max] = ["value", "min", "max"].map(|name| number(&shown[name]));
                format!("{}={value} of {min} to {max}", shown["name"])
            });
            format!("state {:?}", shown.collect::<Vec<_>>())
        }
        "error" => format!("error {}", message["code"].as_str().unwrap_or_default()),
        // The server adds the sender's id to each message of these types. The short form contains this id so that the comparison includes
        // it.
        "offer" | "answer" | "ice-candidate" | "call-ended" => format!("{kind} from {}", message["fromUserId"]),
        "participant-update" => format!("{kind} from {}", message["userId"]),
        other => other.to_owned(),
    };
    delivered(&kind, [&*message.to_string()])
}
