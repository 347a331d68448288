//! Command line interface: one file per subcommand, with its options, defaults, wiring and output. Other modules receive typed
//! configurations and do not depend on clap.

mod audio_output;
mod audio_source;
mod check;
mod client;
mod completions;
mod distinct_files;
mod echo_server;
pub mod environment;
mod generate;
mod live_view;
mod moqt_server;
pub mod options {
    //! Option groups that several subcommands share, and the large option groups of the servers.

    pub mod broadcast;
    pub(crate) mod credentials;
    pub(crate) mod impairment;
    pub(crate) mod media_relay;
    pub(crate) mod network;
    pub(crate) mod registration;
    pub(crate) mod room_target;
    pub(crate) mod signaling_limits;
}
pub mod output;
mod packet_lines;
mod plan;
mod probe;
mod ready_file;
mod relay;
mod run_origin;
mod send;
mod server;
mod short_help;
mod signaling_server;
pub mod system_limits;
mod target;
mod this_machine;
mod usage_error;
pub mod values;

use clap::{ArgAction, ArgMatches, ColorChoice, CommandFactory, Parser, Subcommand};
use generate::Generate;
use output::Failure;

use crate::io::stop::StopToken;

/// The output of `--version`. The build script determines all values but the version.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("BUILD_COMMIT"),
    "\ndate: ",
    env!("BUILD_DATE"),
    "\ntarget: ",
    env!("BUILD_TARGET"),
    "\nfeatures: ",
    env!("BUILD_FEATURES"),
);

/// Echo server, signaling server, audio sender and network probe for jamjam, low-latency network music.
#[derive(Parser)]
#[command(name = "jamjam-dev", version, long_version = LONG_VERSION, max_term_width = 100)]
#[command(arg_required_else_help = true, disable_help_flag = true)]
#[command(override_usage = "jamjam-dev [OPTIONS] <COMMAND>\n       jamjam-dev --generate <KIND>")]
#[command(after_help = "Example: jamjam-dev send --tone 440 --duration 2s --embedded")]
pub struct Cli {
    /// When to use colors (NO_COLOR is respected)
    #[arg(long, default_value_t, global = true, value_name = "WHEN")]
    color: ColorChoice,

    /// Print all options; -h prints the most used ones
    #[arg(short, long, action = ArgAction::HelpShort, global = true)]
    help: Option<bool>,

    /// Print a man page or shell completions and exit
    #[arg(long, value_enum, value_name = "KIND")]
    generate: Option<Generate>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    #[command(mut_args(options::registration::adapt_argument))]
    EchoServer(Box<echo_server::Args>),
    #[command(mut_args(client::adapt_argument))]
    Send(Box<send::Args>),
    #[command(mut_args(client::adapt_argument))]
    Probe(Box<probe::Args>),
    SignalingServer(Box<signaling_server::Args>),
    Relay(Box<relay::Args>),
}

impl Cli {
    /// Whether the subcommand serves until it is stopped.
    pub fn is_server(&self) -> bool {
        !matches!(self.command, None | Some(Command::Send(_) | Command::Probe(_)))
    }

    /// Runs the subcommand until it finishes or `stop` is requested. Returns the exit code. `matches` contains the sources of the values.
    pub fn run(self, matches: &ArgMatches, stop: &StopToken) -> Result<u8, Failure> {
        let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
        match (self.generate, self.command) {
            (Some(document), None) => document.print(Self::command()),
            (Some(_), Some(_)) => {
                Err(Failure::usage("--generate takes no subcommand: its output covers all subcommands"))
            }
            (None, Some(Command::EchoServer(args))) => args.run(matches, self.color, stop),
            (None, Some(Command::Send(args))) => args.run(matches, self.color, stop),
            (None, Some(Command::Probe(args))) => args.run(matches, self.color, stop),
            (None, Some(Command::SignalingServer(args))) => args.run(matches, self.color, stop),
            (None, Some(Command::Relay(args))) => args.run(self.color, stop),
            (None, None) => Err(Failure::usage(
                "subcommand required: echo-server, send, probe, signaling-server or relay; see --help",
            )),
        }
    }
}
