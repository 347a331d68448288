//! The signaling hub and its dialects, in memory.

mod broadcast;
mod control_surface;
mod device;
mod echo_participant;
mod hub;
mod jamjam;
mod message_docs;
mod newer_clients;
mod room_client;
mod tokens;
mod transcript_reader;
mod webrtc;
