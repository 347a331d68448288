//! Tests network-music software without a second musician. One binary contains an echo server, a signaling server, an audio sender, a
//! network probe and a relay. The library runs the servers in a test:
//!
//! ```
//! use jamjam_dev::{echo::EchoConfig, testing::EchoServer, wire};
//! use std::{net::UdpSocket, time::Duration};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = EchoServer::start(EchoConfig { delay: Duration::from_millis(20), ..EchoConfig::default() })?;
//! let client = UdpSocket::bind("127.0.0.1:0")?;
//! let audio = wire::Header::new(wire::PacketType::Audio, 0, 0).to_bytes();
//! client.send_to(&audio, server.addr())?;
//! let mut echo = [0; 12];
//! client.recv(&mut echo)?;
//! assert_eq!((echo, server.counters().received.get()), (audio, 1));
//! # Ok(())
//! # }
//! ```
//!
//! # Crates
//!
//! | crate | modules | contents |
//! | --- | --- | --- |
//! | `jamjam-core` | [`wire`], [`link`] | jamjam packets, STUN messages, and the encrypted link that newer clients use |
//! | | [`echo`], [`impairment`] | the echo server: admission, delay line, counters, reproducible loss and delay |
//! | | [`impairment_patch`] | impairment options as text and JSON, which lie over others |
//! | | [`relay`], [`media_relay`] | forwarding over impaired paths: between clients and a target, and between members of rooms |
//! | | [`transit`], [`recorded_path`] | how impaired datagrams leave, and impairment like a recorded run |
//! | | [`outcome`], [`direction`] | what became of each datagram, and the two directions of a path |
//! | | [`audio`], [`stats`] | WAV, resampling, jitter buffer, audio quality; percentiles, loss, jitter, clock drift |
//! | | [`time`], [`node`] | time values, and the interface between a UDP state machine and the loop that drives it |
//! | | [`node_group`] | many clients on one such loop |
//! | | [`address`], [`units`], [`sanitize`] | what counts as one client, quantities such as `5ms`, untrusted text |
//! | | [`rate_limit`], [`log_throttle`], [`memory_budget`], [`lock`] | limits that several servers share |
//! | `jamjam-moqt` | [`moqt`] | MOQT messages, sessions, echo and client |
//! | `jamjam-signaling` | [`signaling`] | the signaling server: hub, rooms, one module per dialect, and a client for jamjam rooms |
//! | `jamjam-measure` | [`client`], [`run_record`] | the audio sender, the prober and fake musicians; the recorded run |
//! | | [`report`], [`diagnosis`] | figures and limits; what is wrong, and what to do |
//! | | [`document`], [`waveform`] | a report as data, and its formats; its audio |
//! | | [`verdict`] | what a run or a check comes to |
//! | | [`check`], [`machine`] | check of clients, and of this machine |
//! | `jamjam-dev` | [`io`], [`cli`], [`testing`] | sockets, clocks, files, devices, HTTP, TLS; options and output; servers for tests |
//! | `jamjam-dev-harness` | | starts the program in a test of a client |
//!
//! The first four crates are pure: they consist of state machines that receive events with their time, and return data with the time at
//! which they want to be called again, so that the same code runs on a socket and in a test that simulates an hour in a second. They may
//! use the traits of `std::io` and emit `tracing` events; `crates/clippy.toml` disallows clocks, files, sockets, threads and printing, and
//! none of their dependencies performs I/O on its own. `docs/ARCHITECTURE.md` follows a packet, a message and a run through the files.
//!
//! # Glossary
//!
//! - **admission**: the decision about which datagrams get a reply, by source and by rate.
//! - **conceal**: replace missing audio so that the gap is less audible.
//! - **damaged**: returned with bytes that differ from those sent.
//! - **dialect**: message protocol of a signaling server, such as `jamjam` or `webrtc`.
//! - **echo time**: round-trip time including the server delay.
//! - **figure**: one number of the report.
//! - **immediate reply**: reply to KEEPALIVE, LATENCY_PING or STUN, which is sent without delay.
//! - **lateness**: send time minus due time.
//! - **loop check**: KEEPALIVE with a secret token, which only comes back if the source is another echo server.
//! - **mapped address**: a socket's address as a STUN server sees it (RFC 8489).
//! - **newer client**: jamjam's client since autumn 2026, which encrypts its links and connects to `/v1/signaling`.
//! - **outcome**: what happened to a sent packet: returned, damaged, lost, excluded (by a pause), or in flight.
//! - **resync**: restart of the jitter buffer at another stream position, after a jump in sequence numbers or a long gap.
//! - **segment**: one datagram in a buffer that contains several datagrams (GSO, GRO). A **batch** is the result of one receive call.
//! - **server delay**: time between the arrival of AUDIO and its echo (`--delay`).
//! - **settled**: returned, damaged or lost; neither in flight nor excluded.
//! - **source**: address that a packet or connection comes from. For limits, an IPv6 /64 is one source.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![warn(clippy::print_stdout, reason = "output::print_bytes treats a closed pipe as the end")]

pub mod cli;
pub mod io;
pub mod testing;

pub use jamjam_core::{
    address, audio, direction, echo, impairment, impairment_patch, link, lock, log_throttle, media_relay,
    memory_budget, node, node_group, outcome, rate_limit, recorded_path, relay, sanitize, stats, time, transit, units,
    wire,
};
pub use jamjam_measure::{check, client, diagnosis, document, machine, report, run_record, verdict, waveform};
pub use jamjam_moqt as moqt;
pub use jamjam_signaling as signaling;
