//! Tests of the signaling hub and its dialects, in memory and in virtual time.

// Only the library is pure (crates/clippy.toml).
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]

mod broadcast;
mod control_surface;
mod device;
mod echo_participant;
mod hub;
mod message_docs;
mod relayed_media;
mod room_client;
mod strict;
mod test_hub;
mod tokens;
mod transcripts;
mod webrtc;
