//! Random sequences of actions. Each is applied to the hub and to a model of the protocols. Each client receives exactly the messages that the
//! model expects. Unique marks in the messages identify the action that caused them. After all clients have disconnected, nothing is left. Time, posts
//! over HTTP and commands of the embedding application occur in the transcripts and in the fuzz target `signaling_hub`.
//!
//! A failure prints the seed and the shortest failing sequence of actions. `SEED=… cargo test -p jamjam-signaling simulation` runs it again.

mod action;
mod model;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use action::{Action, CODES, DIALECTS, SLOTS, Target, action, messages, text};
use jamjam_signaling::broadcast::BroadcastSettings;
use jamjam_signaling::{ConnId, ControlSurfaceLimits, SignalingLimits};
use model::{MAX_MEMBERS, MAX_ROOMS, MAX_UNDECIDED, Model, short_form};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use serde_json::Value;

use crate::test_hub::{TestHub, ms, token, with_code, with_secret};

/// Every message type, error code and close code that must occur in a full run. A value that never occurs is not tested.
const SEEN: &str = "RoomCreated RoomJoined PeerJoined PeerUpdated PeerLeft RoomList ChatMessage Error
    welcome radio-content lobby-content 1111-content ack state update ROOM_FULL
    existing-participants participant-joined participant-left participant-update participants-list offer 1000 1013";

/// Number of source addresses of clients.
const ADDRESSES: usize = 4;

struct Simulation {
    hub: TestHub,
    model: Model,
    slots: BTreeMap<usize, u64>,
    /// The message types, codes and events that have occurred.
    seen: BTreeSet<String>,
    last: u64,
    serial: u64,
}

impl Simulation {
    fn new() -> Self {
        let control_surface = ControlSurfaceLimits { max_members: MAX_MEMBERS, ..ControlSurfaceLimits::default() };
        let hub = TestHub::new(SignalingLimits {
            max_undecided: MAX_UNDECIDED,
            max_rooms_per_address: MAX_ROOMS,
            max_webrtc_members: MAX_MEMBERS,
            control_surface,
            ..with_secret(&BroadcastSettings::default())
        });
        for code in CODES {
            hub.hub.create_room(ms(0), with_code(code)).expect("a room");
        }
        Self { hub, model: Model::new(), slots: BTreeMap::new(), seen: BTreeSet::new(), last: 0, serial: 0 }
    }

    /// Performs an action one millisecond after the previous action. Therefore, no two actions have the same time.
    fn perform(&mut self, slot: usize, action: Action) -> Result<(), TestCaseError> {
        self.model.now += 1;
        self.serial += 1;
        let (now, value) = (self.model.now, self.serial as f32);
        let marks = [0, 1].map(|number| format!("m{}x", 2 * self.serial + number));
        let Self { hub, model, .. } = self;
        match (action, self.slots.get(&slot).copied()) {
            (Action::Connect(target), None) => {
                self.last += 1;
                self.slots.insert(slot, self.last);
                let from = (slot % ADDRESSES) as u8;
                let url = match target {
                    Target::Undecided => "/".to_owned(),
                    Target::Broadcast(room) => format!("/rooms/{room}?token={}", token(&marks[0], room)),
                    Target::WebRtc(room, user) => format!("/?roomId={room}&userId={user}&userName={}", marks[0]),
                };
                hub.connect_from(self.last, &format!("192.0.2.{from}"), now, &url);
                model.on_connect(self.last, from, target, &marks[0]);
            }
            (Action::Disconnect, Some(conn)) => {
                hub.at(now).on_disconnect(ConnId(conn));
                model.on_disconnect(conn);
            }
            (Action::Say(number, values), Some(conn)) => {
                let messages = messages(model.clients[&conn].dialect);
                let message = messages[number % messages.len()];
                let known = model.known.iter().rev().nth(number / messages.len() % 3);
                let wanted = known.map_or("none", |names| &names[number / 64 % 2]).to_owned();
                hub.text(conn, now, &text(message, values, now, value, &marks, &wanted));
                let reply = hub.received(conn).into_iter().find(|reply| reply["type"] == "RoomCreated");
                model.on_message(conn, (message, values, value), &marks, &wanted, reply.as_ref());
            }
            // The action needs a connection, but the slot has none, or opens one, but the slot already has one.
            _ => {}
        }
        self.check()
    }

    /// Checks that all messages match the expected ones, and all memberships match the model.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let (mut closed, sink) = (self.hub.closed(), std::mem::take(&mut self.hub.sink));
        let (mut sent, mut expected) = (Vec::new(), std::mem::take(&mut self.model.expected));
        for (conn, text) in &sink.texts {
            let message: Value = serde_json::from_str(text).map_err(|error| TestCaseError::fail(error.to_string()))?;
            sent.push((*conn, short_form(&kind_of(&message), text)));
            let word = ["code", "type"].into_iter().find_map(|name| message[name].as_str());
            self.seen.insert(word.unwrap_or_default().to_owned());
        }
        sent.sort();
        expected.sort();
        prop_assert_eq!(sent, expected, "messages");
        let mut expected = std::mem::take(&mut self.model.closed);
        closed.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(&closed, &expected, "closed");
        self.seen.extend(closed.iter().map(|(_, code)| code.to_string()));
        let Model { clients, members, rooms, .. } = &self.model;
        self.slots.retain(|_, conn| clients.contains_key(conn));
        let counts = self.hub.hub.counters_by_dialect(|_| 0);
        for name in DIALECTS {
            let (_, counted) = counts.iter().find(|(counted, _)| *counted == name).expect("a dialect");
            let connections = clients.values().filter(|client| client.dialect == name).count();
            let rooms = rooms.iter().filter(|room| room.name.starts_with(name)).count();
            let members = members.iter().filter(|member| member.room.starts_with(name)).count();
            let expected = [connections, rooms, members].map(|count| count as u64);
            prop_assert_eq!([counted.connections, counted.rooms, counted.members], expected, "{}", name);
        }
        Ok(())
    }

    fn run(mut self, actions: Vec<(usize, Action)>) -> Result<BTreeSet<String>, TestCaseError> {
        for (slot, action) in actions {
            let at_action = |error| TestCaseError::fail(format!("{action:?} at {slot}: {error}"));
            self.perform(slot, action).map_err(at_action)?;
        }
        for slot in 0..SLOTS {
            self.perform(slot, Action::Disconnect)?;
        }
        // Until the control surface rooms expire.
        self.hub.run_timers(100_000_000);
        let counts = self.hub.counts();
        prop_assert_eq!((counts.connections, counts.rooms, self.hub.hub.next_deadline()), (0, 0, None), "left");
        Ok(self.seen)
    }
}

/// The type of a message, with the values and the sender that the server has added.
fn kind_of(message: &Value) -> String {
    let kind = message["type"].as_str().unwrap_or_default();
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN) as f32;
    match kind {
        "update" => format!("update {}={}", message["param"], number(&message["value"])),
        "state" => {
            let values = message["params"].as_array().into_iter().flatten();
            let values = values.map(|param| format!("{}={}", param["name"], number(&param["value"])));
            format!("state {:?}", values.collect::<Vec<_>>())
        }
        "error" => format!("error {}", message["code"].as_str().unwrap_or_default()),
        "offer" => format!("offer from {}", message["fromUserId"]),
        "participant-update" => format!("{kind} from {}", message["userId"]),
        other => other.to_owned(),
    }
}

#[test]
fn any_action_sequence_delivers_exactly_the_expected_messages() {
    let seed = std::env::var("SEED").map_or_else(|_| std::process::id().into(), |seed| seed.parse().expect("a number"));
    let config = ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    };
    let covered = RefCell::new(BTreeSet::new());
    let outcome = TestRunner::new(config).run(&prop::collection::vec(action(), 1..300), |actions| {
        covered.borrow_mut().extend(Simulation::new().run(actions)?);
        Ok(())
    });
    outcome.unwrap_or_else(|failed| panic!("SEED={seed}: {failed}"));
    let missing: Vec<_> = SEEN.split_whitespace().filter(|kind| !covered.borrow().contains(*kind)).collect();
    assert!(missing.is_empty(), "SEED={seed}: these messages never occurred: {missing:?}");
}
