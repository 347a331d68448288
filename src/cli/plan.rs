//! What a run of `send` or `probe` does, and which options apply to it. One table contains each option of both subcommands.

use std::fmt;
use std::path::Path;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::output::Failure;
use super::target::{MoqtTarget, UdpTarget};
use crate::client::{RunKind, StreamKind};
use crate::io::websocket::discovery::SignalingUrl;
use crate::io::websocket::handshake::WebSocketUrl;

/// What to do, as determined by the target and by the options that replace a run.
#[derive(Debug)]
pub enum Plan<'a> {
    /// Send packets over UDP.
    Udp {
        /// The other end.
        peer: UdpPeer<'a>,
        /// The packets.
        stream: StreamKind,
    },
    /// Send groups to a MOQT server; `None` is the embedded server.
    Moqt(Option<&'a MoqtTarget>),
    /// Send requests to a signaling server.
    WebSocket(WebSocketUrl),
    /// Report the recorded run of this file.
    Replay(&'a Path),
    /// Print the rooms of a signaling server.
    ListRooms(SignalingUrl),
    /// Print facts about this machine. The text is the option that requests them.
    Local(&'static str),
}

/// The other end of a run over UDP.
#[derive(Debug)]
pub enum UdpPeer<'a> {
    /// A host.
    Host(&'a UdpTarget),
    /// A member of a room of this signaling server.
    Room(SignalingUrl),
    /// The echo server in this process.
    Embedded,
}

/// Completes the sentence "The option has no effect".
impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Udp { peer: UdpPeer::Host(_), .. } => "over UDP",
            Udp { peer: UdpPeer::Room(_), .. } => "with --room",
            Udp { peer: UdpPeer::Embedded, .. } => "with --embedded",
            Moqt(Some(_)) => "over MOQT",
            Moqt(None) => "with --embedded --moqt",
            WebSocket(_) => "over WebSocket",
            Replay(_) => "with --replay",
            ListRooms(_) => "with --list-rooms",
            Local(option) => return write!(f, "with {option}"),
        })
    }
}

use Plan::{ListRooms, Local, Moqt, Replay, Udp, WebSocket};

/// Options, and the plans to which they apply.
struct Rule {
    /// Identifiers of the options, separated by spaces.
    options: &'static str,
    /// Completes the sentence "The option applies to".
    target: &'static str,
    applies: fn(&Plan<'_>, RunKind) -> bool,
}

const RULES: &[Rule] = &[
    Rule {
        options: "file wav tone mic repeat frame_size resample play device_buffer jitter_buffer record record_both no_echo",
        target: "audio over UDP",
        applies: |plan, _| matches!(plan, Udp { .. }),
    },
    Rule {
        options: "count duration",
        target: "audio and probes, not to texts, which are all sent",
        applies: |plan, kind| plan.is_run() && (kind == RunKind::Probe || matches!(plan, Udp { .. })),
    },
    Rule {
        options: "interval",
        target: "texts and probes; the interval of AUDIO packets follows from --frame-size",
        applies: |plan, kind| plan.is_run() && (kind == RunKind::Probe || matches!(plan, Moqt(_))),
    },
    Rule {
        options: "packet loss_direction link socket_buffer driver",
        target: "UDP: HOST[:PORT], --room NAME or --embedded",
        applies: |plan, _| matches!(plan, Udp { .. }),
    },
    Rule { options: "spin", target: "UDP and WebSocket", applies: |plan, _| matches!(plan, Udp { .. } | WebSocket(_)) },
    Rule {
        options: "delay",
        target: "servers of --embedded and AUDIO over UDP; with probe, add --packet audio",
        applies: |plan, _| {
            matches!(plan, Udp { peer: UdpPeer::Embedded, .. } | Udp { stream: StreamKind::Audio, .. } | Moqt(None))
        },
    },
    Rule {
        options: "size",
        target: "AUDIO and MOQT frames; for AUDIO, add --packet audio",
        applies: |plan, _| matches!(plan, Udp { stream: StreamKind::Audio, .. } | Moqt(_)),
    },
    Rule {
        options: "drop_packets",
        target: "AUDIO with --embedded; with probe, add --packet audio",
        applies: |plan, _| matches!(plan, Udp { stream: StreamKind::Audio, peer: UdpPeer::Embedded }),
    },
    Rule {
        options: "loss jitter reorder duplicate bandwidth seed outcome_log outcome_log_max",
        target: "the echo server of --embedded",
        applies: |plan, _| matches!(plan, Udp { peer: UdpPeer::Embedded, .. }),
    },
    Rule { options: "moqt", target: "the MOQT server of --embedded", applies: |plan, _| matches!(plan, Moqt(None)) },
    Rule {
        options: "text moqt_version frames_per_group",
        target: "MOQT: --to moqt://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH, or --embedded --moqt",
        applies: |plan, _| matches!(plan, Moqt(_)),
    },
    Rule {
        options: "dialect hmac_secret",
        target: "signaling servers: --to ws://HOST[:PORT]",
        applies: |plan, _| matches!(plan, WebSocket(_)),
    },
    Rule {
        options: "room",
        target: "UDP without --to and --embedded, and to signaling servers (--to ws://)",
        applies: |plan, _| matches!(plan, Udp { peer: UdpPeer::Room(_), .. } | WebSocket(_)),
    },
    Rule {
        options: "password_file",
        target: "the room of --room NAME without --to",
        applies: |plan, _| matches!(plan, Udp { peer: UdpPeer::Room(_), .. }),
    },
    Rule {
        options: "signaling_url device_key",
        target: "--room NAME without --to, and to --list-rooms",
        applies: |plan, _| matches!(plan, Udp { peer: UdpPeer::Room(_), .. } | ListRooms(_)),
    },
    Rule {
        options: "ca cert_sha256 insecure",
        target: "TLS: signaling servers (--room, --list-rooms, --to wss://) and MOQT servers",
        applies: |plan, _| {
            matches!(plan, Udp { peer: UdpPeer::Room(_), .. } | ListRooms(_) | WebSocket(_) | Moqt(Some(_)))
        },
    },
    Rule {
        options: "to target",
        target: "a run that sends packets, and to --list-rooms",
        applies: |plan, _| plan.is_run() || matches!(plan, ListRooms(_)),
    },
    Rule {
        options: "embedded wait_for timeout bind record_run progress",
        target: "a run that sends packets",
        applies: |plan, _| plan.is_run(),
    },
    Rule {
        options: "profile max_loss max_p50 max_p99 max_jitter baseline verbose html junit markdown quiet",
        target: "the report of a run",
        applies: |plan, _| plan.is_run() || matches!(plan, Replay(_)),
    },
    Rule {
        options: "json_lines",
        target: "a run that sends packets, and to lists",
        applies: |plan, kind| !matches!((plan, kind), (Replay(_), _) | (Local(_), RunKind::Probe)),
    },
    Rule { options: "json", target: "every output", applies: |_, _| true },
    Rule { options: "replay", target: "a recorded run", applies: |plan, _| matches!(plan, Replay(_)) },
    Rule { options: "list_rooms", target: "a signaling server", applies: |plan, _| matches!(plan, ListRooms(_)) },
    Rule { options: "list_devices this_machine", target: "this machine", applies: |plan, _| matches!(plan, Local(_)) },
];

impl Plan<'_> {
    /// Whether packets are sent.
    fn is_run(&self) -> bool {
        matches!(self, Udp { .. } | Moqt(_) | WebSocket(_))
    }

    /// Returns an error if an option on the command line does not apply to this plan of the subcommand `kind`.
    pub fn check_options(&self, kind: RunKind, matches: &ArgMatches) -> Result<(), Failure> {
        for id in matches.ids().map(clap::Id::as_str) {
            let is_given = matches.value_source(id) == Some(ValueSource::CommandLine);
            let rule = RULES.iter().find(|rule| rule.options.split(' ').any(|option| option == id));
            if let Some(rule) = rule.filter(|rule| is_given && !(rule.applies)(self, kind)) {
                let option = match id {
                    "file" => "FILE".to_owned(),
                    "target" => "HOST[:PORT]|URL".to_owned(),
                    id => format!("--{}", id.replace('_', "-")),
                };
                return Err(Failure::usage(format!("{option} has no effect {self}; it applies to {}", rule.target)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn each_option_of_send_and_probe_is_in_one_rule() {
        let mut cli = Cli::command();
        cli.build();
        let mut known: Vec<&str> = RULES.iter().flat_map(|rule| rule.options.split(' ')).collect();
        known.sort_unstable();
        let commands = ["send", "probe"].map(|name| cli.find_subcommand(name).expect("a subcommand"));
        let arguments = commands.iter().flat_map(|command| command.get_arguments());
        let mut options: Vec<&str> = arguments.map(|argument| argument.get_id().as_str()).collect();
        options.retain(|option| !["help", "color"].contains(option));
        options.sort_unstable();
        options.dedup();
        assert_eq!(known, options);
    }
}
