//! The subcommands: options, defaults, wiring, and what each prints. Nothing below knows of flags.

pub mod announcing;
pub mod args;
pub mod ask;
pub mod bbx_options;
pub mod broadcast_rooms;
pub mod client;
pub mod demo_page;
pub mod dialect;
pub mod distinct;
pub mod docs_login;
pub mod echo_server;
pub mod echo_statistics;
pub mod environment;
pub mod generate;
pub mod groups;
pub mod heartbeats;
pub mod impairment;
pub mod lines;
pub mod listening;
pub mod mic;
pub mod moqt_options;
pub mod moqt_server;
pub mod moqt_session;
pub mod output;
pub mod play;
pub mod probe;
pub mod protection;
pub mod report_files;
pub mod room;
pub mod room_files;
pub mod room_limits;
pub mod secrets;
pub mod send;
pub mod signaling_server;
pub mod sound;
pub mod tape;
pub mod target;
pub mod texts;
pub mod tls;
pub mod trust;
pub mod web_origin;

use std::fmt;

use clap::{Parser, Subcommand};

use crate::io::stop::Stop;

use args::Colour;
use generate::Generate;

/// Echo server, packet sender and path probe for people who build and run jamjam, low-latency network music.
#[derive(Debug, Parser)]
#[command(name = "jamjam-dev", version, max_term_width = 100)]
#[command(arg_required_else_help = true)]
#[command(override_usage = "jamjam-dev [OPTIONS] <COMMAND>\n       jamjam-dev --generate <WHAT>")]
#[command(after_help = "Try it without any other machine: jamjam-dev send --tone 440 --duration 2s --embedded")]
pub struct Cli {
    /// When to use colours; NO_COLOR is respected
    #[arg(long, alias = "color", value_enum, default_value_t, global = true, value_name = "WHEN")]
    colour: Colour,

    /// Print a man page or a shell's completions, and do nothing else
    #[arg(long, value_enum, value_name = "WHAT")]
    generate: Option<Generate>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    EchoServer(Box<echo_server::Args>),
    Send(Box<send::Args>),
    Probe(Box<probe::Args>),
    SignalingServer(Box<signaling_server::Args>),
}

/// An error with the exit code that goes with it: 1 nobody answers, 2 wrong usage, 3 a file, device, name or socket that cannot be used.
#[derive(Debug)]
pub struct Failure {
    /// The process's exit code.
    pub code: u8,
    /// What went wrong, and the way out.
    pub error: anyhow::Error,
}

impl Failure {
    fn usage(error: impl fmt::Display) -> Self {
        Self { code: 2, error: anyhow::anyhow!("{error}") }
    }

    fn unusable(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 3, error: error.into() }
    }
}

impl Cli {
    /// Runs the subcommand to its end, or until `stop` is requested. Returns the exit code.
    pub fn run(self, stop: &Stop) -> Result<u8, Failure> {
        match (self.generate, self.command) {
            (Some(what), None) => what.print(),
            (Some(_), Some(_)) => {
                Err(Failure::usage("--generate takes no subcommand: what it prints covers all of them"))
            }
            (None, Some(Command::EchoServer(args))) => args.run(self.colour, stop),
            (None, Some(Command::Send(args))) => args.run(self.colour, stop),
            (None, Some(Command::Probe(args))) => args.run(self.colour, stop),
            (None, Some(Command::SignalingServer(args))) => args.run(self.colour, stop),
            (None, None) => Err(Failure::usage(
                "give a subcommand: echo-server, send, probe or signaling-server; --help tells more",
            )),
        }
    }
}
