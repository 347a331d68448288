//! The `radio` room: content for players, of which it remembers the latest, and word of its length for control channels.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::positive;
use crate::rooms::bounded_text::written_within;
use crate::rooms::broadcast::Envelope;
use crate::rooms::desk::written;
use crate::rooms::handler::{Client, Context, Relay, Room, RoomHandler};

/// Messages that are remembered, and those of them that a newcomer is shown.
const REMEMBERED: usize = 10;
const SHOWN: usize = 5;

/// The most bytes of a remembered message.
const LONGEST_REMEMBERED: usize = 256 << 10;

/// What the room says it can do.
const FEATURES: [&str; 3] = ["content-broadcast", "recent-content", "delayed-posts"];

/// The first frame that a member gets.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Welcome<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'static str,
    room: &'a str,
    time: u64,
    recent_content: Vec<&'a RawValue>,
    features: [&'static str; 3],
}

/// A message in it.
#[derive(Serialize)]
struct Recent<'a> {
    timestamp: String,
    data: &'a Value,
}

/// The `radio` room. What it remembers outlives its members.
#[derive(Debug, Default)]
pub struct Radio {
    delay: Duration,
    envelope: Envelope,
    /// The oldest first, as the JSON that newcomers are told.
    recent: VecDeque<Box<RawValue>>,
    /// The length of the latest content whose length was told, in milliseconds.
    slot_ms: Option<f64>,
}

impl Radio {
    /// A room where a `post` that asks for no delay waits for `delay`, and what is relayed looks like `envelope`.
    pub fn new(delay: Duration, envelope: Envelope) -> Self {
        Self { delay, envelope, ..Self::default() }
    }

    /// Ten of the longest posts would be much to tell everybody who comes, so those are not remembered.
    fn remember(&mut self, room: &Room<'_>, payload: &Value) {
        let written = written_within(&Recent { timestamp: room.iso(), data: payload }, LONGEST_REMEMBERED);
        let Some(remembered) = written.and_then(|text| RawValue::from_string(text).ok()) else { return };
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(remembered);
    }

    /// What the other programs' players look for is added for them alone.
    fn marked(&self, mut payload: Value, marks: &[(&str, &str)]) -> Relay {
        if let (Envelope::Dynode, Some(members)) = (self.envelope, payload.as_object_mut()) {
            members.extend(marks.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
        }
        Relay::Message(payload)
    }
}

impl RoomHandler for Radio {
    fn welcome_message(&mut self, room: &Room<'_>, _: &Client) -> String {
        let recent = self.recent.iter().skip(self.recent.len().saturating_sub(SHOWN));
        written(&Welcome {
            kind: "welcome",
            message: "Connected to Radio Content room",
            room: room.name,
            time: room.unix_ms(),
            recent_content: recent.map(Box::as_ref).collect(),
            features: FEATURES,
        })
    }

    fn validate_http_post(&mut self, _: &Room<'_>, payload: &Value) -> Result<(), String> {
        let content = payload.get("data").and_then(|data| data.get("content"));
        let has_id = |content: &Value| match content.get("id") {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(_) => true,
        };
        if content.is_none_or(has_id) { Ok(()) } else { Err("Content must have an id".to_owned()) }
    }

    fn on_message(&mut self, _: &Room<'_>, _: &Client, payload: Value) -> Option<Relay> {
        Some(self.marked(payload, &[("room", "radio"), ("processedBy", "RadioHandler")]))
    }

    fn on_http_post(&mut self, _: &Room<'_>, payload: Value) -> Option<Relay> {
        Some(self.marked(payload, &[("room", "radio"), ("contentType", "radio")]))
    }

    fn room_stats(&self, _: &Room<'_>) -> Map<String, Value> {
        Map::from_iter([("recentContent".to_owned(), self.recent.len().into())])
    }

    fn control_payload(&mut self, context: &Context<'_>) -> Option<Value> {
        self.remember(&context.room, context.payload);
        self.slot_ms = told_ms(context).or(self.slot_ms);
        let seconds = (self.slot_ms? / 1e3).round();
        let mut letters = context.room.name.chars();
        let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        Some(json!({"rc": {
            "version": "1",
            "id": "1",
            "action": "play_now",
            "name": format!("{first}{}Content", letters.as_str()),
            "max-duration": seconds.to_string(),
        }}))
    }

    fn broadcast_delay(&self, context: &Context<'_>) -> Duration {
        let Context { payload, sender, .. } = context;
        let is_post = payload.get("type").and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("post"));
        if !is_post {
            return Duration::ZERO;
        }
        let asked = positive(payload.get("delay")).or_else(|| positive(payload.get("data")?.get("delay")));
        let own = || {
            let client = (*sender)?;
            let query = client.parameter("broadcastDelay").map(Value::from);
            positive(query.as_ref()).or_else(|| positive(client.metadata("broadcastDelay")))
        };
        let seconds = asked.or_else(own);
        seconds.map_or(self.delay, |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

/// How long content lasts, in milliseconds, as the message says it, or as its sender always has.
fn told_ms(context: &Context<'_>) -> Option<f64> {
    let in_any = |find: &dyn Fn(&str) -> Option<f64>| {
        let seconds = |name| find(name).map(|seconds| seconds * 1e3);
        find("expectedSlotDurationMs")
            .or_else(|| seconds("expectedSlotDurationSeconds"))
            .or_else(|| seconds("durationSeconds"))
    };
    let payload = context.payload;
    let places = [Some(payload), payload.get("metadata"), payload.get("data")];
    let said = places.into_iter().flatten().find_map(|place| in_any(&|name| positive(place.get(name))));
    said.or_else(|| {
        let sender = context.sender?;
        in_any(&|name| positive(sender.parameter(name).map(Value::from).as_ref()))
            .or_else(|| in_any(&|name| positive(sender.metadata(name))))
    })
}
