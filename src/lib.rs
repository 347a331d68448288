//! An echo server, a sender of real audio and a path probe for people who build and run jamjam.
//!
//! This page is the map of the house. A *room* is a module of this crate. Rooms lie on floors, and a room uses rooms
//! of lower floors only, never a neighbour on its own; `tests/layers.rs` reads every path of every file and fails on
//! an arrow that goes up or across.
//!
//! | floor | room | what is in it |
//! | ---: | --- | --- |
//! | 1 | [`time`] | a point in time, in nanoseconds since an origin that nothing depends on |
//! | 2 | [`node`] | what every party to a UDP conversation is: a state machine with three calls, and perhaps a bell |
//! | 2 | [`units`] | quantities as people type them: `5ms`, `0.5%`, `64MiB`, `2mbit`, `off` |
//! | 3 | [`wire`] | the bytes of a jamjam packet, and of STUN |
//! | 3 | [`audio`] | samples: WAV, tones, what devices deliver and take, mixing, resampling, payloads |
//! | 3 | [`stats`] | counts, percentiles, bursts, reordering, jitter, delay variation, pacing, drift of a clock, in fixed memory |
//! | 3 | [`heard`] | what a listener would notice: gaps, level, clipping, silence, alignment |
//! | 3 | [`playout`] | playing what comes back: a jitter buffer that follows the path and the device, and conceals gaps |
//! | 4 | [`link`] | a bad path, on purpose and by a seed: what it loses, delays, repeats and reorders |
//! | 4 | [`moqt`] | MOQT streams as a state machine: messages, sessions, the echo and its client |
//! | 5 | [`echo`] | the echo server as a node: delay line, budget, protection, counters |
//! | 5 | [`flow`] | the sending side as nodes: schedule, ledger, sender, prober, and what a signaling server is asked |
//! | 5 | [`rooms`] | rooms over WebSocket as a state machine: hub, limits, a file a dialect |
//! | 6 | [`report`] | from a run's facts to numbers, limits, a verdict, text, JSON, JUnit and Markdown |
//! | 7 | [`io`] | **acts**: sockets, threads, clocks, files, sound devices, HTTP and WebSocket, the log, the progress bar |
//! | 8 | [`cmd`] | **acts**: one file a subcommand: options, wiring, what is printed |
//!
//! Above them all is `main.rs`: it parses, listens for signals, runs one subcommand and exits.
//!
//! # Two rooms act, the rest is pure
//!
//! Only [`io`] and [`cmd`] touch sockets, clocks, files, threads, the environment or standard output. Everywhere else
//! time comes in as an argument and a deadline goes out as a value, so that the same code runs under a socket and in
//! a test of a simulated hour. Pure rooms may read and write through `std::io`'s traits and raise `tracing` events.
//! `clap` and `anyhow` stop at the door: only [`cmd`] and `main.rs` know of flags.
//!
//! # How a packet walks through `echo-server`
//!
//! 1. [`cmd::echo_server`] turns options into an [`echo::Config`], binds the socket ([`io::udp::bind`]) and gives both to
//!    [`io::udp::spawn`], which runs the one loop there is on a thread of its own.
//! 2. The loop reads a batch, with the kernel's receive stamps, and hands it to [`echo::Echo`] by
//!    [`node::Node::on_datagram`].
//! 3. [`wire::parse`] says what each datagram is, and the guard whether it may be answered ([`echo::Protection`]). AUDIO is
//!    charged to the budget and put into the delay line, due at its stamp plus the delay; what answers KEEPALIVE,
//!    LATENCY_PING and STUN goes into a second line, due at once; the rest is counted.
//! 4. The loop sleeps until [`node::Node::next_deadline`], a little less, and watches the clock for what is left.
//! 5. [`node::Node::poll_transmit`] hands what is due to the loop's [`node::Sink`]: neighbours of one client as one
//!    segmented send, straight from the line's memory, from the address that was asked.
//!    (Where replies are impaired or their fates are logged, [`link`] decides on each when it comes, and all of them wait in
//!    one line by due time instead; [`io::fate_log`] writes what became of them.)
//! 6. Meanwhile the main thread reads the [`echo::Counters`] and logs them, until [`io::stop::Stop`] is requested.
//!
//! # How audio walks through `send`
//!
//! 1. [`cmd::send`] opens the WAV file ([`audio::wav`]); [`audio::playback`] mixes, resamples and cuts it into payloads.
//! 2. [`io::feed`] does that ahead of time, on a thread of its own, into a bounded queue: a [`flow::Source`].
//! 3. [`flow::Sender`] is a node. The packet after this one is made ready before it is due; [`flow::Schedule`] tells when
//!    that is, from the start and the sample rate alone. The same loop as above runs it. (A microphone, [`io::sound`], is a source
//!    too, but a live one: its callback fills a ring, [`audio::capture`], and rings a [`node::Bell`]; a packet is due when it is there.)
//! 4. Each packet that leaves is entered in a ledger with its time and a digest of what should come back. What comes is
//!    matched by sequence, compared, and counted in [`stats`] as it happens; an [`flow::Observer`] is told of each
//!    ([`io::tape`] carries the sound of both sides to recordings, [`io::sound`] what came back to a loudspeaker's callback, which plays it by [`playout`], [`cmd::lines`] prints a line a packet).
//! 5. The node has no deadline any more when everything is back or nothing can be expected: the loop ends.
//! 6. [`flow::run::Run`] is the raw result. [`report::Report`] judges it against the limits, [`report::text`] or
//!    [`report::json`] prints it, [`report::junit`], [`report::markdown`] and [`report::html`] go into files, and its verdict becomes the exit code.

pub mod audio;
pub mod cmd;
pub mod echo;
pub mod flow;
pub mod heard;
pub mod io;
pub mod link;
pub mod moqt;
pub mod node;
pub mod playout;
pub mod report;
pub mod rooms;
pub mod stats;
pub mod time;
pub mod units;
pub mod wire;
