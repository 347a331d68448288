//! `jamjam-dev signaling-server` as a process on real sockets.

mod broadcast_http;
mod broadcast_transcripts;
mod connections;
mod control_surface;
mod control_surface_transcripts;
mod http;
mod mixed_dialects;
mod options;
mod three_processes;
mod tls;
mod transcripts;
mod webrtc;
