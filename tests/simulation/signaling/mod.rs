//! Any sequence of actions of clients of all four dialects, of the program, of HTTP posts and of time: each client
//! receives exactly the messages that the protocol defines, marked by sender, and no state remains except what the protocol keeps.
//!
//! A failure prints the seed and the shortest failing sequence of actions; `SEED=… CASES=… cargo test --test simulation signaling` runs it again.

mod action;
mod broadcast;
mod expected_joins;
mod expected_messages;
mod model;
mod received_messages;
mod stage;

use std::cell::RefCell;
use std::collections::BTreeSet;

use action::{Action, CODES, Mutation, ROOMS, TextKind, Token, action};
use model::MAX_ROOMS;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use stage::{ADDRESSES, Fault, LONG, Stage, begins};

/// Maximum actions of one simulation.
const ACTIONS: usize = 300;

/// Simulations.
const CASES: u32 = 400;

/// Every type of message that there is, every error code and close code: a run in which one of them never occurs does not test it.
const SEEN: &str = "RoomCreated RoomJoined PeerJoined PeerUpdated PeerLeft RoomList ChatMessage Error
    welcome control-welcome radio-content chat-content lobby-content 1111-content ack error rc
    state update visualization pong closed INVALID_ROOM ROOM_FULL
    existing-participants participant-joined participant-left participant-update participants-list
    offer answer ice-candidate call-ended
    1000 1008 1013 4000 4001 4002 4005 cut";

fn number(variable: &str, otherwise: impl FnOnce() -> u64) -> u64 {
    std::env::var(variable).map_or_else(|_| otherwise(), |text| text.parse().expect("a number"))
}

fn live(actions: &[(usize, Action)]) -> Result<BTreeSet<String>, Fault> {
    let mut stage = Stage::new();
    begins(&mut stage);
    for (slot, action) in actions {
        stage.act(*slot, action).map_err(|fault| format!("{action:?} at {slot}: {fault}"))?;
    }
    stage.all_go()?;
    // A new client finds the initial state, except for the radio history and the rooms that the program keeps.
    epilogue(&mut stage).map_err(|fault| format!("after all have gone: {fault}"))?;
    stage.all_go()?;
    stage.pass(LONG)?;
    let counts = stage.hub.total_counters();
    if (counts.rooms, counts.delayed_messages, stage.hub.next_deadline()) != (0, 0, None) {
        return Err(format!("something is left at the end of time: {counts:?}, {:?}", stage.hub.next_deadline()));
    }
    Ok(stage.seen)
}

/// From every address as many rooms are made as may be, in every dialect; all names that were given are tried; and names of
/// people in chat are free.
fn epilogue(stage: &mut Stage) -> Result<(), Fault> {
    let say = |kind, detail| Action::SendText(TextKind::Any(kind), detail, Mutation::None);
    for address in 0..ADDRESSES {
        for room in 0..MAX_ROOMS {
            stage.act(address + room * ADDRESSES, &Action::Enter(Some(room), false, Token::Right))?;
        }
        stage.all_go()?;
        for room in 0..MAX_ROOMS {
            stage.act(address + room * ADDRESSES, &Action::Join(room, 0))?;
        }
        stage.all_go()?;
    }
    for slot in 0..ADDRESSES * MAX_ROOMS {
        stage.act(slot, &Action::Connect)?;
        for detail in 0..3 {
            stage.act(slot, &say(1, detail))?;
        }
        stage.act(slot, &say(0, 0))?;
    }
    stage.all_go()?;
    for (slot, code) in (0..CODES.len()).enumerate() {
        stage.act(slot, &Action::Connect)?;
        stage.act(slot, &say(9, code as u8))?;
        stage.act(slot, &say(15, 0))?;
    }
    stage.all_go()?;
    for slot in 0..ROOMS.len() {
        stage.act(slot, &Action::Enter(Some(slot), true, Token::Right))?;
    }
    Ok(())
}

#[test]
fn any_action_sequence_delivers_exactly_the_expected_messages() {
    let seed = number("SEED", || std::process::id().into());
    let worlds = number("CASES", || CASES.into()) as u32;
    println!("SEED={seed} CASES={worlds}");
    let config = ProptestConfig {
        cases: worlds,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    };
    let sequences = prop::collection::vec(action(), 1..ACTIONS);
    let covered = RefCell::new(BTreeSet::new());
    let outcome = TestRunner::new(config).run(&sequences, |actions| {
        covered.borrow_mut().extend(live(&actions).map_err(TestCaseError::fail)?);
        Ok(())
    });
    if let Err(failed) = outcome {
        panic!("SEED={seed}: {failed}");
    }
    // A short run need not contain every message.
    let missing: Vec<_> = SEEN.split_whitespace().filter(|kind| !covered.borrow().contains(*kind)).collect();
    assert!(missing.is_empty() || worlds < CASES, "SEED={seed}: these messages never occurred: {missing:?}");
}
