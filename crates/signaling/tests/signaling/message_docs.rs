//! The documentation of the WebSocket messages agrees with the hub: what the hub sends matches the documented schemas, the hub accepts every
//! documented example, and it accepts messages of no other type.

use std::collections::{BTreeMap, BTreeSet};

use boon::{Compiler, SchemaIndex, Schemas};
use jamjam_signaling::message_docs::{ChannelDoc, MessageDocs, message_docs};
use jamjam_signaling::token::{Claims, Secret, sign};
use jamjam_signaling::{CloseCode, Dialect, DialectSet, Route, SignalingLimits, route};
use serde_json::{Map, Value, json};
use test_support::in_memory_hub::InMemoryHub;
use test_support::logged::logged;
use test_support::transcript::{TranscriptServer, run_transcript};
use test_support::transcript_files::transcripts;

const KEY: [u64; 4] = [1, 2, 3, 4];

/// Rejects fields that the schema does not list. A schema without a list of fields stays open.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(close);
            if members.get("properties").is_some_and(Value::is_object) && !members.contains_key("additionalProperties")
            {
                members.insert("additionalProperties".to_owned(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// The documented messages of the server, with compiled schemas.
struct Documented {
    docs: MessageDocs,
    schemas: Schemas,
    /// The channel, the name of the message, and its schema.
    server_messages: Vec<(&'static str, String, SchemaIndex)>,
}

impl Documented {
    fn new() -> Self {
        let docs = message_docs(&SignalingLimits::default());
        let mut document = json!({"components": {"schemas": docs.schemas}});
        for channel in &docs.channels {
            let schemas: Vec<&Value> = channel.server_messages.iter().map(|message| &message.schema).collect();
            document[channel.id] = json!(schemas);
        }
        close(&mut document);
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.add_resource("memory:///messages.json", document).unwrap();
        let mut server_messages = Vec::new();
        for channel in &docs.channels {
            for (index, message) in channel.server_messages.iter().enumerate() {
                let pointer = format!("memory:///messages.json#/{}/{index}", channel.id);
                let schema = compiler.compile(&pointer, &mut schemas).unwrap();
                server_messages.push((channel.id, message.name.clone(), schema));
            }
        }
        Self { docs, schemas, server_messages }
    }

    fn channel(&self, id: &str) -> &ChannelDoc {
        self.docs.channels.iter().find(|channel| channel.id == id).unwrap()
    }

    /// The messages of these channels that have the schema of `message`.
    fn matching(&self, channels: &[&str], message: &Value) -> Vec<(&'static str, String)> {
        let candidates = self.server_messages.iter().filter(|(channel, ..)| channels.contains(channel));
        let matching = candidates.filter(|(.., schema)| self.schemas.validate(message, *schema).is_ok());
        matching.map(|(channel, name, _)| (*channel, name.clone())).collect()
    }
}

/// The channels that a connection with this URL can belong to. The first message may decide.
fn channels_of(url: &str) -> Vec<&'static str> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    match route(path, query, DialectSet::default()) {
        Ok(Route::Undecided) => vec!["jamjam", "bbx"],
        Ok(Route::NewerJamjam) => vec!["jamjam"],
        Ok(Route::WebRtc(_)) => vec!["webrtc"],
        Ok(Route::Broadcast(params)) if params.is_control_channel => vec!["broadcast-control"],
        Ok(Route::Broadcast(params)) => match params.room.as_deref() {
            Some("chat") => vec!["broadcast-chat"],
            Some("radio") => vec!["broadcast-radio"],
            _ => vec!["broadcast"],
        },
        other => panic!("{url}: {other:?}"),
    }
}

/// A hub that checks each message and each close that a client receives.
struct CheckedHub<'a> {
    hub: InMemoryHub,
    documented: &'a Documented,
    channels: BTreeMap<String, Vec<&'static str>>,
    seen: &'a mut BTreeSet<(&'static str, String)>,
    closes: &'a mut BTreeSet<(u16, String)>,
}

impl TranscriptServer for CheckedHub<'_> {
    fn connect(&mut self, name: &str, to: &str) -> Result<(), String> {
        self.channels.insert(name.to_owned(), channels_of(to));
        self.hub.connect(name, to)
    }

    fn send_text(&mut self, name: &str, text: &str) -> Result<(), String> {
        self.hub.send_text(name, text)
    }

    fn send_binary(&mut self, name: &str) -> Result<(), String> {
        self.hub.send_binary(name)
    }

    fn close(&mut self, name: &str) -> Result<(), String> {
        self.hub.close(name)
    }

    fn cut(&mut self, name: &str) -> Result<(), String> {
        self.hub.cut(name)
    }

    fn receive(&mut self, name: &str) -> Result<String, String> {
        let text = self.hub.receive(name)?;
        // The deepest relayed values exceed the depth that serde_json parses.
        let Ok(message) = serde_json::from_str::<Value>(&text) else { return Ok(text) };
        let matching = self.documented.matching(&self.channels[name], &message);
        if matching.is_empty() {
            return Err(format!("{name} receives an undocumented message: {text}"));
        }
        self.seen.extend(matching);
        Ok(text)
    }

    fn no_message(&mut self, name: &str) -> Result<(), String> {
        self.hub.no_message(name)
    }

    fn expect_closed(&mut self, name: &str) -> Result<Option<(u16, String)>, String> {
        let closed = self.hub.expect_closed(name)?;
        let (code, reason) = closed.clone().unwrap_or((CloseCode::ABNORMAL_CLOSURE.get(), String::new()));
        let mut documented = self.channels[name].iter().flat_map(|id| &self.documented.channel(id).closes);
        if !documented.any(|close| close.code.get() == code && close.reason == reason) {
            return Err(format!("{name} is closed with {code} {reason:?}, which is not documented"));
        }
        self.closes.insert((code, reason));
        Ok(closed)
    }

    fn expect_pinged(&mut self, name: &str) -> Result<(), String> {
        self.hub.expect_pinged(name)
    }

    fn advance(&mut self, seconds: u64) -> bool {
        self.hub.advance(seconds)
    }

    fn program(&mut self, command: &str) -> Result<bool, String> {
        self.hub.program(command)
    }

    fn no_messages(&mut self) -> Result<(), String> {
        self.hub.no_messages()
    }
}

#[test]
fn all_messages_and_closes_in_the_transcripts_are_documented() {
    let documented = Documented::new();
    let (mut seen, mut closes, mut failures) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for dialect in ["jamjam", "broadcast", "control_surface", "webrtc"] {
        for (name, transcript) in transcripts(dialect) {
            let (hub, channels) = (InMemoryHub::new(KEY), BTreeMap::new());
            let (seen, closes, documented) = (&mut seen, &mut closes, &documented);
            let mut hub = CheckedHub { hub, documented, channels, seen, closes };
            if let Err(error) = run_transcript(&transcript, &mut hub) {
                failures.push(format!("{dialect}/{name}: {error}"));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(closes.len() >= 6, "{closes:?}");
    let all = documented.server_messages.iter().map(|(channel, name, _)| (*channel, name.clone()));
    let unseen: Vec<_> = all.filter(|message| !seen.contains(message)).collect();
    // The transcripts of `radio` contain neither message. All rooms share both.
    let expected = ["ack", "error"].map(|name| ("broadcast-radio", name.to_owned()));
    assert!(unseen.iter().all(|message| expected.contains(message)), "no transcript contains {unseen:?}");
}

#[test]
fn fields_of_client_examples_are_documented() {
    for channel in &Documented::new().docs.channels {
        for message in &channel.client_messages {
            for field in message.examples.iter().filter_map(Value::as_object).flat_map(Map::keys) {
                assert!(message.schema["properties"][field].is_object(), "{} {}: {field}", channel.id, message.name);
            }
        }
    }
}

#[test]
fn examples_of_server_messages_match_only_their_own_schema() {
    let documented = Documented::new();
    for channel in &documented.docs.channels {
        for message in &channel.server_messages {
            for example in &message.examples {
                let matching = documented.matching(&[channel.id], example);
                assert_eq!(matching, [(channel.id, message.name.clone())], "{example}");
            }
        }
    }
}

#[test]
fn undocumented_fields_types_and_values_are_detected() {
    let documented = Documented::new();
    for (channel, message) in [
        ("webrtc", json!({"type": "pong", "extra": 1})),
        ("webrtc", json!({"type": "welcome", "roomId": "r", "userId": "u"})),
        (
            "webrtc",
            json!({"type": "welcome", "roomId": "r", "userId": "u", "participants": [{"id": "u", "name": "n"}]}),
        ),
        ("bbx", json!({"type": "update", "param": "freq", "value": "0.5"})),
        ("bbx", json!({"type": "Closed"})),
        ("jamjam", json!({"type": "PeerJoined", "data": {"peer": {"id": "x", "name": "y", "candidates": []}}})),
        ("broadcast", json!({"type": "lobby", "content": 1, "timestamp": 1, "from": "a"})),
    ] {
        assert_eq!(documented.matching(&[channel], &message), [], "{message}");
    }
}

fn example_of(parameter: &Value) -> &str {
    parameter["examples"][0].as_str().unwrap()
}

/// A hub with the client `ann`, who is in the room of the channel if clients can join by URL. There are a second member `bob` and the bbx room
/// `4711`.
fn hub_in(channel: &ChannelDoc) -> InMemoryHub {
    let mut hub = InMemoryHub::new(KEY);
    hub.program("creates room 4711").unwrap();
    for name in ["ann", "bob"] {
        let value = |parameter: &str| match parameter {
            "userId" | "userName" => name.to_owned(),
            "token" => {
                let room = channel.address.trim_start_matches("/rooms/");
                let room = if room.starts_with("{room}") { example_of(&channel.path_parameters["room"]) } else { room };
                sign(&Secret::new("test-secret"), &Claims::new(name, room, Map::new(), 1, 1e6))
            }
            _ => example_of(&channel.query["properties"][parameter]).to_owned(),
        };
        let required = channel.query["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        let query: Vec<String> = required.map(|name| format!("{name}={}", value(name))).collect();
        let mut path = channel.address.to_owned();
        for (name, parameter) in channel.path_parameters.as_object().unwrap() {
            path = path.replace(&format!("{{{name}}}"), example_of(parameter));
        }
        hub.connect(name, &format!("{path}?{}", query.join("&"))).unwrap();
    }
    hub
}

/// What the hub logs about a message of `ann` that follows `first`.
fn log_of(channel: &ChannelDoc, first: &Value, text: &str) -> Vec<String> {
    let mut hub = hub_in(channel);
    hub.send_text("ann", &first.to_string()).unwrap();
    logged(|| hub.send_text("ann", text).unwrap())
}

/// A message after which the hub accepts every message of the channel.
fn first_message(channel: &ChannelDoc) -> Value {
    match channel.id {
        "jamjam" => json!({"type": "CreateRoom", "data": {"room_name": "r", "password": null, "peer_name": "p"}}),
        "bbx" => json!({"type": "join", "room_code": "4711"}),
        "broadcast-chat" => json!({"type": "setUsername", "username": "Ann"}),
        _ => json!({"type": "ping"}),
    }
}

#[test]
fn hub_accepts_every_example_of_a_client_message() {
    let mut accepted = 0;
    for channel in message_docs(&SignalingLimits::default()).channels {
        for message in &channel.client_messages {
            for example in &message.examples {
                let lines = log_of(&channel, &first_message(&channel), &example.to_string());
                let is_wrong = |line: &&String| line.contains("message ignored") || line.contains("message rejected");
                // The room of the example does not exist.
                let wrong = lines.iter().filter(is_wrong).find(|line| !line.ends_with("reason=Room not found"));
                assert_eq!(wrong, None, "{} {example}", channel.id);
                accepted += 1;
            }
        }
    }
    assert!(accepted > 25, "{accepted} examples");
}

/// Every word in the source of a dialect, which includes every type that the source compares with, and every documented type.
fn candidate_types(sources: &[&str]) -> BTreeSet<String> {
    let folder = format!("{}/src", env!("CARGO_MANIFEST_DIR"));
    let mut types = BTreeSet::new();
    for source in sources {
        let text = std::fs::read_to_string(format!("{folder}/{source}")).unwrap();
        let words = text.split(|letter: char| !letter.is_ascii_alphabetic() && letter != '-');
        types.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
    }
    for channel in message_docs(&SignalingLimits::default()).channels {
        let messages = channel.client_messages.into_iter().chain(channel.server_messages);
        types.extend(messages.map(|message| message.name));
    }
    types
}

#[test]
fn hub_accepts_exactly_the_documented_message_types() {
    let docs = message_docs(&SignalingLimits::default());
    let channel = |id| docs.channels.iter().find(|channel| channel.id == id).unwrap();
    let source: [(&str, &[&str]); 3] = [
        ("jamjam", &["jamjam/mod.rs", "jamjam/messages.rs"]),
        ("bbx", &["control_surface/mod.rs", "control_surface/messages.rs"]),
        ("webrtc", &["webrtc.rs"]),
    ];
    for (id, sources) in source {
        let channel = channel(id);
        let documented: BTreeSet<&str> = channel.client_messages.iter().map(|message| &*message.name).collect();
        let candidates = candidate_types(sources);
        assert!(candidates.len() > 300, "{} candidates", candidates.len());
        for candidate in &candidates {
            let lines = log_of(channel, &first_message(channel), &json!({"type": candidate}).to_string());
            let is_unknown = |line: &String| line.contains("unknown message type") || line.contains("unknown value");
            assert_eq!(documented.contains(&**candidate), !lines.iter().any(is_unknown), "{id} {candidate}: {lines:?}");
        }
    }
}

#[test]
fn chat_room_handles_exactly_the_documented_message_types() {
    let docs = message_docs(&SignalingLimits::default());
    let channel = docs.channels.iter().find(|channel| channel.id == "broadcast-chat").unwrap();
    let documented: BTreeSet<&str> = channel.client_messages.iter().map(|message| &*message.name).collect();
    for candidate in candidate_types(&["broadcast/builtin_rooms.rs"]) {
        if candidate == "keepalive" || candidate == "ack" {
            continue;
        }
        let mut hub = hub_in(channel);
        hub.send_text("ann", &first_message(channel).to_string()).unwrap();
        for _ in 0..2 {
            hub.receive("bob").unwrap();
        }
        let sent = json!({"type": candidate, "username": "Ann", "isTyping": true, "text": "hello"});
        hub.send_text("ann", &sent.to_string()).unwrap();
        let received: Value = serde_json::from_str(&hub.receive("bob").unwrap()).unwrap();
        // A message of an unknown type is relayed with all of its fields.
        assert_eq!(documented.contains(&*candidate), received["content"] != sent, "{candidate}: {received}");
    }
}

#[test]
fn only_enabled_dialects_are_documented() {
    for dialect in Dialect::ALL {
        let limits = SignalingLimits { dialects: DialectSet::only(dialect), ..SignalingLimits::default() };
        let docs = message_docs(&limits);
        assert!(!docs.channels.is_empty(), "{dialect:?}");
        assert!(docs.channels.iter().all(|channel| channel.dialect == dialect), "{dialect:?}");
        assert_eq!(docs.schemas.contains_key("Peer"), dialect == Dialect::Jamjam);
        assert_eq!(docs.schemas.contains_key("Participant"), dialect == Dialect::WebRtc);
    }
}
