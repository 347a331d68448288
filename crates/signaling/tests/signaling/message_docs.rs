//! The documentation of the WebSocket messages agrees with the hub: what the hub sends matches the documented schemas, and the hub accepts
//! every documented example.

use std::collections::BTreeSet;

use boon::{Compiler, SchemaIndex, Schemas};
use jamjam_signaling::message_docs::{ChannelDoc, MessageDocs, message_docs};
use jamjam_signaling::token::{Claims, Secret, sign};
use jamjam_signaling::{CloseCode, ConnId, Dialect, Route, SignalingLimits, WebSocketError, route};
use serde_json::{Map, Value, json};
use test_support::logged::logged;
use test_support::transcript::{TranscriptServer, run_transcript};
use test_support::transcript_files::{Transcript, sent_messages, transcripts};

use crate::test_hub::TestHub;
use crate::transcripts::TranscriptHub;

const KEY: [u64; 4] = [1, 2, 3, 4];

/// Rejects fields that the schema does not list. A schema without a list of fields stays open.
fn close(schema: &mut Value) {
    if schema["properties"].is_object() && schema["additionalProperties"].is_null() {
        schema["additionalProperties"] = false.into();
    }
    match schema {
        Value::Object(members) => members.values_mut().for_each(close),
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
            document[channel.id] = channel.server_messages.iter().map(|message| message.schema.clone()).collect();
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

    /// The channels that a connection with this URL can belong to. The first message may decide.
    fn channels_of(&self, url: &str) -> Vec<&'static str> {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let route = route(path, query, &Dialect::ALL).unwrap_or_else(|error| panic!("{url}: {error}"));
        if let Route::Broadcast(params) = &route {
            return match params.room.as_deref() {
                _ if params.is_control_channel => vec!["broadcast-control"],
                Some("chat") => vec!["broadcast-chat"],
                Some("radio") => vec!["broadcast-radio"],
                _ => vec!["broadcast"],
            };
        }
        let is_undecided = |channel: &ChannelDoc| channel.address == "/" && channel.query["required"] == json!([]);
        let is_possible = |channel: &&ChannelDoc| match route.dialect() {
            Some(dialect) => channel.dialect == dialect,
            None => is_undecided(channel),
        };
        self.docs.channels.iter().filter(is_possible).map(|channel| channel.id).collect()
    }

    /// The messages of these channels that have the schema of `message`.
    fn matching(&self, channels: &[&str], message: &Value) -> Vec<(&'static str, String)> {
        let candidates = self.server_messages.iter().filter(|(channel, ..)| channels.contains(channel));
        let matching = candidates.filter(|(.., schema)| self.schemas.validate(message, *schema).is_ok());
        matching.map(|(channel, name, _)| (*channel, name.clone())).collect()
    }
}

#[test]
fn all_messages_and_closes_in_the_transcripts_are_documented() {
    let documented = Documented::new();
    let (mut seen, mut closes) = (BTreeSet::new(), BTreeSet::new());
    for Transcript { name, text, .. } in transcripts() {
        let mut hub = TranscriptHub::new(KEY);
        run_transcript(&text, &mut hub).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (url, text) in hub.received {
            // The deepest relayed values exceed the depth that serde_json parses.
            let Ok(message) = serde_json::from_str::<Value>(&text) else { continue };
            let matching = documented.matching(&documented.channels_of(&url), &message);
            assert!(!matching.is_empty(), "{name}: {text} is not documented");
            seen.extend(matching);
        }
        for (url, ended) in hub.ended {
            let (code, reason) = ended.unwrap_or((CloseCode::ABNORMAL_CLOSURE.get(), String::new()));
            let channels = documented.channels_of(&url);
            let mut known = channels.into_iter().flat_map(|id| &documented.channel(id).closes);
            let is_documented = known.any(|close| close.code.get() == code && close.reason == reason);
            assert!(is_documented, "{name}: {code} {reason:?} is not documented");
            closes.insert((code, reason));
        }
    }
    assert!(closes.len() >= 6, "{closes:?}");
    let all = documented.server_messages.iter().map(|(channel, name, _)| (*channel, name.clone()));
    let unseen: Vec<_> = all.filter(|message| !seen.contains(message)).collect();
    // The transcripts of `radio` contain neither message. All rooms share both.
    let expected = ["ack", "error"].map(|name| ("broadcast-radio", name.to_owned()));
    assert!(unseen.iter().all(|message| expected.contains(message)), "no transcript contains {unseen:?}");
}

/// The transcripts show that the hub accepts these types and no others.
#[test]
fn documented_client_messages_are_those_of_the_protocols_and_in_a_transcript() {
    let documented = Documented::new();
    for (id, types) in [
        ("jamjam", "ChatMessage CreateRoom JoinRoom LeaveRoom ListRooms PeerMessage UpdatePeerInfo"),
        ("bbx", "join leave param ping sync trigger"),
        ("webrtc", "answer call-ended ice-candidate offer participant-update ping request-participants"),
        ("broadcast-chat", "chatMessage setUsername typing"),
    ] {
        let channel = documented.channel(id);
        let names: BTreeSet<&str> = channel.client_messages.iter().map(|message| &*message.name).collect();
        assert_eq!(names, types.split(' ').collect(), "{id}");
        let sent = sent_messages(channel.dialect);
        let unsent = names.iter().find(|name| sent.iter().all(|message| message["type"] != ***name));
        assert_eq!(unsent, None, "{id}");
    }
}

#[test]
fn fields_of_client_examples_are_documented() {
    for channel in &Documented::new().docs.channels {
        for message in &channel.client_messages {
            assert!(!message.examples.is_empty(), "{} {}", channel.id, message.name);
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
            assert!(!message.examples.is_empty(), "{} {}", channel.id, message.name);
            for example in &message.examples {
                let matching = documented.matching(&[channel.id], example);
                assert_eq!(matching, [(channel.id, message.name.clone())], "{example}");
            }
        }
    }
}

fn example_of(parameter: &Value) -> &str {
    parameter["examples"][0].as_str().unwrap()
}

/// A hub with the client `ann`, who is in the room of the channel if clients can join by URL. There are a second member `bob` and the bbx room
/// `4711`.
fn hub_in(channel: &ChannelDoc) -> TranscriptHub {
    let mut hub = TranscriptHub::new(KEY);
    hub.program("creates room 4711").unwrap();
    let mut path = channel.address.to_owned();
    for (name, parameter) in channel.path_parameters.as_object().unwrap() {
        path = path.replace(&format!("{{{name}}}"), example_of(parameter));
    }
    let room = path.split('/').nth(2).unwrap_or_default();
    for name in ["ann", "bob"] {
        let value = |parameter: &str| match parameter {
            "userId" | "userName" => name.to_owned(),
            "token" => sign(&Secret::new("test-secret"), &Claims::new(name, room, Map::new(), 1, 1e6)),
            _ => example_of(&channel.query["properties"][parameter]).to_owned(),
        };
        let required = channel.query["required"].as_array().unwrap().iter().filter_map(Value::as_str);
        let query: Vec<String> = required.map(|name| format!("{name}={}", value(name))).collect();
        hub.connect(name, &format!("{path}?{}", query.join("&"))).unwrap();
    }
    hub
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
                let mut hub = hub_in(&channel);
                hub.send_text("ann", &first_message(&channel).to_string()).unwrap();
                let lines = logged(|| hub.send_text("ann", &example.to_string()).unwrap());
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

#[test]
fn only_enabled_dialects_are_documented() {
    for dialect in Dialect::ALL {
        let limits = SignalingLimits { dialects: vec![dialect], ..SignalingLimits::default() };
        let docs = message_docs(&limits);
        assert!(!docs.channels.is_empty(), "{dialect:?}");
        assert!(docs.channels.iter().all(|channel| channel.dialect == dialect), "{dialect:?}");
        assert_eq!(docs.schemas.contains_key("Peer"), dialect == Dialect::Jamjam);
        assert_eq!(docs.schemas.contains_key("Participant"), dialect == Dialect::WebRtc);
    }
}

#[test]
fn closes_after_wrong_frames_are_documented() {
    let documented = Documented::new();
    for error in WebSocketError::ALL {
        let mut hub = TestHub::new(SignalingLimits::default());
        hub.connect_to(1, "/v1/signaling");
        hub.at(0, |hub, now| hub.on_error(now, ConnId(1), error));
        let [(_, code, reason)] = &hub.sink.closed[..] else { panic!("{error:?}: {:?}", hub.sink.closed) };
        let mut known = documented.channel("jamjam").closes.iter();
        assert!(known.any(|close| close.code.get() == *code && close.reason == reason), "{error:?}: {code} {reason}");
    }
}
