//! Tests network-music software without a second musician. One binary contains an echo server, a signaling server, an audio sender and a
//! network probe. The library runs the servers in a test:
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
//! # Modules
//!
//! Modules are arranged in layers. A module uses only modules of lower layers. `tests/repository/layers.rs` checks this rule for every path
//! in the code.
//!
//! | layer | module | contents |
//! | ---: | --- | --- |
//! | 1 | [`time`] | time values, wall-clock conversion; reads no clock |
//! | 2 | [`node`] | the interface between a UDP state machine and its driver |
//! | 2 | [`units`] | quantities in options: `5ms`, `0.5%`, `64MiB`, `2mbit`, `off` |
//! | 2 | [`address`] | networks, canonical addresses, which addresses count as one client |
//! | 2 | [`sanitize`] | replacement of control characters in untrusted text |
//! | 3 | [`rate_limit`] | limits on packets, requests and failed attempts |
//! | 3 | [`log_throttle`] | limits on log lines |
//! | 3 | [`memory_budget`] | the limit on the memory that clients make a process hold |
//! | 4 | [`wire`] | jamjam packets and STUN messages |
//! | 4 | [`stats`] | counters, percentiles, loss, reordering, jitter, delay variation, pacing, clock drift |
//! | 5 | [`audio`] | WAV, devices, mixing, resampling; [`audio::quality`] analysis; [`audio::jitter_buffer`] |
//! | 5 | [`impairment`] | reproducible loss, jitter, reordering, duplication and bandwidth limit |
//! | 5 | [`link`] | the encrypted link: key exchange, sealed packets, state of one peer |
//! | 5 | [`moqt`] | MOQT messages, sessions, echo and client |
//! | 6 | [`echo`] | the echo server: reply queue, admission, counters |
//! | 6 | [`signaling`] | the signaling server: hub, rooms, limits, one module per dialect |
//! | 7 | [`client`] | the audio sender and the prober |
//! | 8 | [`report`] | limits and output formats: text, JSON, JUnit, Markdown, HTML |
//! | 9 | [`io`] | **performs I/O**: sockets, threads, clocks, files, devices, HTTP, TLS, logging |
//! | 10 | [`testing`] | servers in the process of a test |
//! | 11 | [`cli`] | **performs I/O**: options, wiring and output of the subcommands |
//!
//! `main.rs` parses the command line, handles signals, runs one subcommand and exits.
//!
//! Only [`io`] and [`cli`] access sockets, clocks, files, threads, the environment and standard output. All other modules are pure state
//! machines. The caller passes in the time, and the state machine returns its deadlines. Therefore, the same code runs on a socket and in a
//! test that simulates an hour. Pure modules may use the traits of `std::io` and emit `tracing` events. Only [`cli`] and `main.rs` use
//! `clap` and `anyhow`.
//!
//! # Path of a packet through `echo-server`
//!
//! 1. [`cli::echo_server`] converts options to an [`echo::EchoConfig`]. Then, [`cli::echo_server`] binds the socket ([`io::udp::bind`]) and
//!    starts the driver on a thread ([`io::udp::spawn_node`]).
//! 2. The driver receives a batch with kernel timestamps and passes it to [`echo::EchoServer`] ([`node::Node::on_datagram`]).
//! 3. [`wire::parse_packet`] parses each datagram once. On an encrypted link, [`link::Session`] opens the packet. Admission decides whether
//!    the packet gets a reply ([`echo::AdmissionConfig`]). All replies enter one queue, ordered by due time. AUDIO is due at its receive
//!    time plus the server delay. Replies to KEEPALIVE, LATENCY_PING and STUN are due immediately. If an impairment or an outcome log is
//!    configured, [`impairment`] may drop, delay or duplicate all replies except STUN responses and loop checks.
//! 4. The driver sleeps until shortly before [`node::Node::next_deadline`], then busy-waits within the limit of `--spin`.
//! 5. [`node::Node::poll_transmit`] passes due packets to the driver's [`node::TransmitSink`]. One segmented send transmits several packets
//!    to one client, directly from the memory of the queue, without a copy. On an encrypted link, the packets are sealed there first.
//!    Impaired replies are sent one by one.
//! 6. The main thread logs the [`echo::Counters`] until a stop is requested ([`io::stop::StopToken`]).
//!
//! # Path of the audio through `send`
//!
//! 1. [`cli::send`] opens the WAV file ([`audio::wav`]). A thread of [`io`] mixes and resamples the audio ahead of time ([`audio`]). The
//!    thread splits the audio into payloads for a bounded queue, the [`client::PayloadSource`]. A microphone ([`io::sound`]) is another
//!    [`client::PayloadSource`].
//! 2. [`client::AudioSender`] is a node. [`client::Schedule`] computes due times from the start time and the sample rate. A packet from a
//!    microphone is due as soon as it is complete. The callback of the microphone wakes the driver ([`node::DriverWaker`]).
//! 3. Each sent packet is tracked with its send time and a digest of the expected echo. Echoes are matched by sequence number, compared
//!    and counted in [`stats`]. A [`client::PacketObserver`] receives each packet and each echo, for recordings ([`io::recorder`]) and
//!    playback ([`io::sound`]).
//! 4. When all echoes have returned or timed out, the node has no deadline. Without a deadline, the driver ends.
//! 5. [`report::Report`] evaluates the result (`client::RunResults`) against the limits. Each output format shows this evaluation. If a
//!    completed run exceeds a limit, the exit code is 1.
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
//! - **loop check**: KEEPALIVE with a secret token. A loop check finds out whether a source is another echo server.
//! - **mapped address**: a socket's address as a STUN server sees it (RFC 8489).
//! - **newer client**: jamjam's client since autumn 2026. It encrypts its links and connects to `/v1/signaling`.
//! - **outcome**: what happened to a packet: returned, damaged, lost, or in flight.
//! - **resync**: restart of the jitter buffer at another stream position. A jump in sequence numbers or a long gap causes a resync.
//! - **segment**: one datagram in a buffer that contains several datagrams (GSO, GRO). A **batch** is the result of one receive call.
//! - **server delay**: time between the arrival of AUDIO and its echo (`--delay`).
//! - **settled**: returned, damaged or lost, and no longer in flight.
//! - **source**: address that a packet or connection comes from. For limits, an IPv6 /64 is one source.

pub mod cli;
pub mod io;
pub mod testing;

pub use jamjam_core::{
    address, audio, echo, impairment, link, log_throttle, memory_budget, node, rate_limit, sanitize, stats, time,
    units, wire,
};
pub use jamjam_measure::{client, report};
pub use jamjam_moqt as moqt;
pub use jamjam_signaling as signaling;
