//! Options of clients over UDP: the other end, and how packets are sent to it.

use std::time::Duration;

use clap::ArgMatches;

use super::credentials::TrustArgs;
use super::impairment::{self, ImpairmentArgs};
use super::network::HEADING_LOCAL_SYSTEM;
use super::room_target::{DeviceKeyArgs, RoomArgs};
use super::timing::TimingArgs;
use crate::cli::client::udp::{UdpClient, UdpPeer};
use crate::cli::output::{Failure, HEADING_TARGET, ensure_usage};
use crate::cli::target::{Endpoint, LOCAL_ECHO_SERVER};
use crate::cli::values::{ClientLinkMode, driver_parser, parse_millis};
use crate::client::StreamKind;
use crate::io::local_socket::LocalSocketOptions;
use crate::io::udp::{Backend, DEFAULT_RECEIVE_BUFFER, DriverOptions};
use crate::units::parse_size;

/// Options that apply to UDP only.
#[derive(Clone, Copy, Default, clap::Args)]
pub(crate) struct UdpArgs {
    /// Encrypt the packets (the link), like jamjam clients since autumn 2026
    ///
    /// Only KEEPALIVE is sent before both ends have agreed on keys. AUDIO is stereo. With `signed`, the server
    /// must sign with the link key that its room announces. This needs --room, and --signaling-url http:// or the path /v1/signaling. With
    /// `unsigned`, nothing is verified, and a server without encryption makes the link plain.
    #[arg(long, value_enum, value_name = "MODE", help_heading = HEADING_TARGET)]
    pub link: Option<ClientLinkMode>,

    /// Report loss upstream and downstream, from server counts
    ///
    /// An echo-server reports how many packets arrived and their source address. Any other STUN server reports only the address.
    #[arg(long, help_heading = HEADING_TARGET)]
    pub loss_direction: bool,

    #[command(flatten)]
    pub socket: SocketArgs,
}

/// How datagrams are received and sent.
#[derive(Clone, Copy, Default, clap::Args)]
pub(crate) struct SocketArgs {
    /// Receive buffer size to request from the kernel [default: 1MiB]
    #[arg(long, hide = true, value_name = "SIZE", value_parser = parse_size, help_heading = HEADING_LOCAL_SYSTEM)]
    socket_buffer: Option<u64>,

    /// UDP driver to use
    #[arg(long, value_parser = driver_parser(), hide = true)]
    driver: Option<Backend>,
}

impl SocketArgs {
    /// Receive buffer of each socket, in bytes.
    pub(crate) fn receive_buffer(self) -> usize {
        self.socket_buffer.map_or(DEFAULT_RECEIVE_BUFFER, |size| size.min(1 << 30) as usize)
    }

    pub(crate) fn driver(self) -> Backend {
        self.driver.unwrap_or(Backend::Native)
    }
}

impl UdpArgs {
    /// The options of the driver of sockets with this local address.
    pub(crate) fn driver_options(self, spin_percent: u8, local: LocalSocketOptions) -> DriverOptions {
        let follow_address = local.local_address.is_none_or(|address| address.ip().is_unspecified());
        DriverOptions::client(spin_percent, self.socket.driver(), follow_address)
    }

    /// Returns an error if --link needs a room.
    pub(crate) fn check_link(self, has_room: bool) -> Result<(), Failure> {
        ensure_usage!(
            self.link != Some(ClientLinkMode::Signed) || has_room,
            "--link signed needs the link key of the server, which a room announces: give --signaling-url URL with --room NAME instead of \
             the target, or --link unsigned"
        );
        Ok(())
    }
}

#[derive(Clone, Copy, clap::Args)]
pub(crate) struct DelayArgs {
    /// The server's AUDIO delay, in ms or with a unit [default of --embedded: 100]
    ///
    /// Sets the delay of the echo server of --embedded. With --moqt, this is the delay of MOQT frames, 0 by default. For any other server,
    /// gives its delay, which is subtracted from the round-trip time of AUDIO. An echo server of this program reports its delay.
    #[arg(long, hide_short_help = true, value_name = "MS", value_parser = parse_millis, help_heading = HEADING_TARGET)]
    pub delay: Option<Duration>,
}

impl DelayArgs {
    /// Returns an error if the server does not delay these packets.
    pub(crate) fn check(self, stream_kind: StreamKind) -> Result<(), Failure> {
        ensure_usage!(
            self.delay.is_none() || stream_kind == StreamKind::Audio,
            "--delay has no effect on these packets; it applies to AUDIO (add --packet audio)"
        );
        Ok(())
    }
}

/// Options that name something else than a host as the other end, or that its room needs. clap does not require what another option excludes:
/// what requires --room is excluded with it.
pub(crate) const NOT_WITH_A_HOST: [&str; 7] =
    ["embedded", "room", "password_file", "device_key", "ca", "cert_sha256", "insecure"];

/// What else than a host the other end may be, a room member or the echo server in this process, and how long the client waits for it.
#[derive(clap::Args)]
#[command(mut_args(|arg| match arg.get_help_heading() {
    Some(impairment::HEADING) => arg.hide_short_help(true).requires("embedded").conflicts_with("room"),
    _ => arg,
}))]
pub(crate) struct PeerArgs {
    #[command(flatten)]
    pub delay: DelayArgs,

    /// Use an echo server inside this process
    #[arg(long, conflicts_with_all = &NOT_WITH_A_HOST[1..], help_heading = HEADING_TARGET)]
    embedded: bool,

    #[command(flatten)]
    pub room: RoomArgs,

    #[command(flatten)]
    device: DeviceKeyArgs,

    #[command(flatten)]
    pub trust: TrustArgs,

    #[command(flatten)]
    impairment: ImpairmentArgs,

    #[command(flatten)]
    pub timing: TimingArgs,
}

impl PeerArgs {
    /// The client of `host` if it is given, or else of what these options name.
    pub(crate) fn client<'a>(
        &'a self,
        host: Option<&'a Endpoint>,
        udp: UdpArgs,
        (local, spin): (LocalSocketOptions, u8),
        matches: &ArgMatches,
    ) -> Result<UdpClient<'a>, Failure> {
        let peer = match (host, self.room.url(matches)?) {
            _ if self.embedded => UdpPeer::Embedded(Box::new(self.impairment.checked()?)),
            (Some(host), _) => UdpPeer::Host(host),
            (None, Some(url)) => UdpPeer::Room(self.room.on(url, &self.trust, self.device.device_key.as_deref())),
            (None, None) => UdpPeer::Host(&LOCAL_ECHO_SERVER),
        };
        udp.check_link(matches!(peer, UdpPeer::Room(_)))?;
        Ok(UdpClient { peer, udp, timing: self.timing, delay: self.delay.delay, local, spin })
    }

    /// Returns an error if options do not apply to these packets.
    pub(crate) fn check_packets(&self, stream_kind: StreamKind) -> Result<(), Failure> {
        if !self.embedded {
            self.delay.check(stream_kind)?;
        }
        ensure_usage!(
            !self.impairment.needs_audio() || stream_kind == StreamKind::Audio,
            "--drop-packets has no effect on these packets; it applies to AUDIO (add --packet audio)"
        );
        Ok(())
    }

    /// Whether there are options that only a member of a room needs.
    pub(crate) fn has_member_options(&self, matches: &ArgMatches) -> bool {
        let (room, device) = (&self.room, &self.device);
        room.is_url_given(matches) || room.password_file.is_some() || device.device_key.is_some()
    }

    /// The name of the other end, for the report of a failure before it is known.
    pub(crate) fn name(&self, host: Option<String>) -> String {
        let is_unnamed = self.embedded || self.room.room.is_some();
        host.unwrap_or_else(|| if is_unnamed { "-".to_owned() } else { LOCAL_ECHO_SERVER.to_string() })
    }
}
