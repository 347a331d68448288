//! Command line interface: one file per subcommand, with its options, defaults, wiring and output. Other modules receive typed
//! configurations and do not depend on clap.

mod audio_output;
mod audio_source;
mod check;
mod client;
mod compare;
mod devices;
mod doctor;
mod echo_server;
pub mod environment;
mod file_arguments;
mod generate;
pub mod help;
mod load_echo;
mod load_rooms;
mod moqt_server;
mod musicians;
pub mod options {
    //! Option groups that several commands share, and the large option groups of the servers.

    pub mod broadcast;
    pub(crate) mod credentials;
    pub(crate) mod impairment;
    pub(crate) mod measurement;
    pub(crate) mod media_relay;
    pub(crate) mod registration;
    pub(crate) mod report;
    pub(crate) mod room_target;
    pub(crate) mod signaling_client;
    pub(crate) mod signaling_limits;
}
pub mod output;
mod packet_lines;
mod probe;
mod publish;
mod ready_file;
mod relay;
mod replay;
mod rooms;
mod run_origin;
mod send;
mod server;
pub mod signaling_caps;
mod signaling_server;
pub mod system_limits;
mod target;
mod token;
mod usage_error;
pub mod values;

use clap::{ArgAction, ArgMatches, ColorChoice, CommandFactory, Parser, Subcommand};
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
#[command(
    after_help = "Example: jamjam-dev send --tone 440 --duration 2s --embedded\nOptions: jamjam-dev COMMAND -h, all: jamjam-dev COMMAND --help"
)]
pub struct Cli {
    /// When to use colors
    ///
    /// With `auto`, output to a terminal is colored unless NO_COLOR is set.
    #[arg(long, hide_short_help = true, default_value_t, global = true, value_name = "WHEN")]
    color: ColorChoice,

    /// Print all options; -h prints the most used ones
    #[arg(short, long, hide_short_help = true, action = ArgAction::HelpShort, global = true)]
    help: Option<bool>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    EchoServer(Box<echo_server::Args>),
    SignalingServer(Box<signaling_server::Args>),
    Relay(Box<relay::Args>),
    Send(Box<send::Args>),
    Probe(Box<probe::Args>),
    Compare(Box<compare::Args>),
    LoadEcho(Box<load_echo::Args>),
    LoadRooms(Box<load_rooms::Args>),
    Musicians(Box<musicians::Args>),
    Publish(Box<publish::Args>),
    Replay(Box<replay::Args>),
    Rooms(rooms::Args),
    Devices(devices::Args),
    Doctor(doctor::Args),
    Token(token::Args),
    Generate(generate::Args),
}

impl Cli {
    /// Whether the command serves until it is stopped.
    pub fn is_server(&self) -> bool {
        matches!(self.command, Command::EchoServer(_) | Command::SignalingServer(_) | Command::Relay(_))
    }

    /// Runs the command until it finishes or `stop` is requested. Returns the exit code. `matches` contains the sources of the values.
    pub fn run(self, matches: &ArgMatches, stop: &StopToken) -> Result<u8, Failure> {
        let (name, matches) = matches.subcommand().unwrap_or(("", matches));
        values::set_color(self.color);
        run_origin::set_command(name);
        match self.command {
            Command::EchoServer(args) => args.run(matches, stop),
            Command::SignalingServer(args) => args.run(matches, stop),
            Command::Relay(args) => args.run(stop),
            Command::Send(args) => args.run(matches, stop),
            Command::Probe(args) => args.run(matches, stop),
            Command::Compare(args) => args.run(stop),
            Command::LoadEcho(args) => args.run(matches, stop),
            Command::LoadRooms(args) => args.run(stop),
            Command::Musicians(args) => args.run(matches, stop),
            Command::Publish(args) => args.run(stop),
            Command::Replay(args) => args.run(),
            Command::Rooms(args) => args.run(),
            Command::Devices(args) => args.run(),
            Command::Doctor(args) => args.run(stop),
            Command::Token(args) => args.run(),
            Command::Generate(args) => args.run(Self::command()),
        }
    }
}
