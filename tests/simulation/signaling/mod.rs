//! Any sequence of deeds of clients of all four dialects at once, of the program, of those who post over HTTP, and of time: everybody
//! hears exactly what the protocol says that they hear, marked by who said it, and nothing is left behind but what the protocol keeps.
//!
//! A failure prints the seed and the fewest deeds that still fail; `SEED=… CASES=… cargo test --test simulation signaling` runs it again.

mod broadcast;
mod coming;
mod deed;
mod ears;
mod said;
mod stage;
mod world;

use std::cell::RefCell;
use std::collections::BTreeSet;

use deed::{CODES, Deed, Mutation, ROOMS, Token, Words, deed};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use stage::{ADDRESSES, Fault, LONG, Stage, begins};
use world::MOST_ROOMS;

/// Deeds of one world.
const DEEDS: usize = 300;

/// Worlds.
const CASES: u32 = 400;

/// Every type of message that there is, every error code and close code: a test in whose worlds one is missing proves little of it.
const SEEN: &str = "RoomCreated RoomJoined PeerJoined PeerUpdated PeerLeft RoomList ChatMessage Error
    welcome control-welcome radio-content chat-content lobby-content 1111-content ack error rc
    state update visualization pong closed INVALID_ROOM ROOM_FULL
    existing-participants participant-joined participant-left participant-update participants-list
    offer answer ice-candidate call-ended
    1000 1008 1013 4000 4001 4002 4005 cut";

fn number(variable: &str, otherwise: impl FnOnce() -> u64) -> u64 {
    std::env::var(variable).map_or_else(|_| otherwise(), |text| text.parse().expect("a number"))
}

fn live(deeds: &[(usize, Deed)]) -> Result<BTreeSet<String>, Fault> {
    let mut stage = Stage::new();
    begins(&mut stage);
    for (place, deed) in deeds {
        stage.act(*place, deed).map_err(|fault| format!("{deed:?} at {place}: {fault}"))?;
    }
    stage.all_go()?;
    // Whoever comes now finds everything as on the first day, but for what the radio remembers and the rooms that the program keeps.
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
    let say = |kind, detail| Deed::Say(Words::Any(kind), detail, Mutation::None);
    for address in 0..ADDRESSES {
        for room in 0..MOST_ROOMS {
            stage.act(address + room * ADDRESSES, &Deed::Enter(Some(room), false, Token::Right))?;
        }
        stage.all_go()?;
        for room in 0..MOST_ROOMS {
            stage.act(address + room * ADDRESSES, &Deed::Join(room, 0))?;
        }
        stage.all_go()?;
    }
    for place in 0..ADDRESSES * MOST_ROOMS {
        stage.act(place, &Deed::Connect)?;
        for detail in 0..3 {
            stage.act(place, &say(1, detail))?;
        }
        stage.act(place, &say(0, 0))?;
    }
    stage.all_go()?;
    for (place, code) in (0..CODES.len()).enumerate() {
        stage.act(place, &Deed::Connect)?;
        stage.act(place, &say(9, code as u8))?;
        stage.act(place, &say(15, 0))?;
    }
    stage.all_go()?;
    for place in 0..ROOMS.len() {
        stage.act(place, &Deed::Enter(Some(place), true, Token::Right))?;
    }
    Ok(())
}

#[test]
fn whatever_happens_everybody_hears_what_is_theirs_and_nothing_is_left_behind() {
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
    let sequences = prop::collection::vec(deed(), 1..DEEDS);
    let covered = RefCell::new(BTreeSet::new());
    let outcome = TestRunner::new(config).run(&sequences, |deeds| {
        covered.borrow_mut().extend(live(&deeds).map_err(TestCaseError::fail)?);
        Ok(())
    });
    if let Err(failed) = outcome {
        panic!("SEED={seed}: {failed}");
    }
    // Fewer worlds than usual need not have everything in them.
    let missing: Vec<_> = SEEN.split_whitespace().filter(|kind| !covered.borrow().contains(*kind)).collect();
    assert!(missing.is_empty() || worlds < CASES, "SEED={seed}: nobody ever heard {missing:?}");
}
