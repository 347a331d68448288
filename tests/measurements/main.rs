//! What needs the clock. `scripts/check` runs these tests after all others, one at a time while nothing else runs, and each asks the program
//! for its figure with a limit, so that the program says itself that this host measured nothing. The sound card and the GitHub action are
//! here too, because their runs also take seconds of real time: only `.ci/full` runs them.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![cfg(target_os = "linux")]

mod bad_room;
mod github_action;
mod limits;
mod link;
mod live_view;
mod musicians;
mod pauses;
mod relay;
#[cfg(feature = "mic")]
mod sound_devices;
mod targets;
