//! Random sequences of actions. Clients of all four dialects and the embedding application perform actions. Other actions post messages
//! over HTTP or advance the time. Each client receives exactly the messages that the protocol defines. Unique marks in the messages
//! identify the action that caused them. After all clients have disconnected, the hub contains only the state that the protocol requires.
//!
//! A failure prints the seed and the shortest failing sequence of actions. `SEED=… CASES=… cargo test --test library simulation::signaling`
//! runs it again.

mod action;
mod broadcast;
mod expected_joins;
mod expected_messages;
mod hub_simulation;
mod model;
mod received_messages;

use std::cell::RefCell;
use std::collections::BTreeSet;

use action::{Action, CODES, Mutation, ROOMS, TextKind, Token, action};
use hub_simulation::{ADDRESSES, Fault, HubSimulation, LONG, start_clock};
use model::MAX_ROOMS;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

/// Maximum actions of one simulation.
const ACTIONS: usize = 300;

/// Number of simulations.
const CASES: u32 = 400;

/// Every message type, error code and close code. All of them must occur in a full run. A value that never occurs is not tested.
const SEEN: &str = "RoomCreated RoomJoined PeerJoined PeerUpdated PeerLeft RoomList ChatMessage Error
    welcome control-welcome radio-content chat-content lobby-content 1111-content ack error rc
    state update visualization pong closed INVALID_ROOM ROOM_FULL
    existing-participants participant-joined participant-left participant-update participants-list
    offer answer ice-candidate call-ended
    1000 1008 1013 4000 4001 4002 4005 cut";

fn number(variable: &str, otherwise: impl FnOnce() -> u64) -> u64 {
    std::env::var(variable).map_or_else(|_| otherwise(), |text| text.parse().expect("a number"))
}

fn run_actions(actions: &[(usize, Action)]) -> Result<BTreeSet<String>, Fault> {
    let mut simulation = HubSimulation::new();
    start_clock(&mut simulation);
    for (slot, action) in actions {
        simulation.perform(*slot, action).map_err(|fault| format!("{action:?} at {slot}: {fault}"))?;
    }
    simulation.disconnect_all()?;
    // A new client finds the initial state. The exceptions are the radio history and the rooms that the embedding application keeps open.
    check_initial_state(&mut simulation).map_err(|fault| format!("after all clients have disconnected: {fault}"))?;
    simulation.disconnect_all()?;
    simulation.advance(LONG)?;
    let counts = simulation.hub.total_counters();
    if (counts.rooms, counts.delayed_messages, simulation.hub.next_deadline()) != (0, 0, None) {
        return Err(format!("something is left at the end of time: {counts:?}, {:?}", simulation.hub.next_deadline()));
    }
    Ok(simulation.seen)
}

/// Creates the maximum number of rooms from every address in every dialect. Tries all ids and codes that were assigned. Checks that the
/// `chat` room lists no user names.
fn check_initial_state(simulation: &mut HubSimulation) -> Result<(), Fault> {
    let send = |kind, detail| Action::SendText(TextKind::Any(kind), detail, Mutation::None);
    for address in 0..ADDRESSES {
        for room in 0..MAX_ROOMS {
            simulation
                .perform(address + room * ADDRESSES, &Action::ConnectBroadcast(Some(room), false, Token::Valid))?;
        }
        simulation.disconnect_all()?;
        for room in 0..MAX_ROOMS {
            simulation.perform(address + room * ADDRESSES, &Action::ConnectWebRtc(room, 0))?;
        }
        simulation.disconnect_all()?;
    }
    for slot in 0..ADDRESSES * MAX_ROOMS {
        simulation.perform(slot, &Action::Connect)?;
        for detail in 0..3 {
            simulation.perform(slot, &send(1, detail))?;
        }
        simulation.perform(slot, &send(0, 0))?;
    }
    simulation.disconnect_all()?;
    for (slot, code) in (0..CODES.len()).enumerate() {
        simulation.perform(slot, &Action::Connect)?;
        simulation.perform(slot, &send(9, code as u8))?;
        simulation.perform(slot, &send(15, 0))?;
    }
    simulation.disconnect_all()?;
    for slot in 0..ROOMS.len() {
        simulation.perform(slot, &Action::ConnectBroadcast(Some(slot), true, Token::Valid))?;
    }
    Ok(())
}

#[test]
fn any_action_sequence_delivers_exactly_the_expected_messages() {
    let seed = number("SEED", || std::process::id().into());
    let cases = number("CASES", || CASES.into()) as u32;
    println!("SEED={seed} CASES={cases}");
    let config = ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    };
    let sequences = prop::collection::vec(action(), 1..ACTIONS);
    let covered = RefCell::new(BTreeSet::new());
    let outcome = TestRunner::new(config).run(&sequences, |actions| {
        covered.borrow_mut().extend(run_actions(&actions).map_err(TestCaseError::fail)?);
        Ok(())
    });
    if let Err(failed) = outcome {
        panic!("SEED={seed}: {failed}");
    }
    // A short run need not contain every message.
    let missing: Vec<_> = SEEN.split_whitespace().filter(|kind| !covered.borrow().contains(*kind)).collect();
    assert!(missing.is_empty() || cases < CASES, "SEED={seed}: these messages never occurred: {missing:?}");
}
