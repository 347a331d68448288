//! UDP targets of `send` and `probe`: a host, a room member, or the embedded echo server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::ClientConfig;

use super::monitor::RunMonitor;
use super::{ClientArgs, EMBEDDED_DELAY, FinishedRun};
use crate::cli::options::impairment::OutcomeLogFile;
use crate::cli::output::{Failure, print_notice};
use crate::cli::values::ClientLinkMode;
use crate::client::{ClientNode, LinkConfig, LinkSigning, PacketObserver, Workload};
use crate::echo::{self, EchoConfig};
use crate::io::os;
use crate::io::signaling::client::RoomSession;
use crate::io::signaling::discovery::SignalingUrl;
use crate::io::stop::StopToken;
use crate::io::udp::{self, BoundSocket, DriverOptions, StraySocket};
use crate::io::websocket::connect::DEFAULT_CONNECT_TIMEOUT;
use crate::link::{LinkKey, parse_link_key};
use crate::testing::EchoServer;
use crate::time::saturating_nanos;

pub(crate) struct ConnectedTarget {
    pub address: SocketAddr,
    /// Name in the report.
    pub name: String,
    /// The link to set up (`--link`).
    pub link: Option<LinkConfig>,
    /// How long the connection took, with the retries of `--wait-for`.
    pub waited: Duration,
    pub(super) bound: BoundSocket,
    pub(super) strays: Option<StraySocket>,
    pub(super) embedded: Option<(EchoServer, Option<OutcomeLogFile>)>,
    pub(super) rooms: Rooms,
}

/// The rooms of the client. If this is dropped, it leaves them all at the same time.
#[derive(Default)]
pub(super) struct Rooms(pub(super) Vec<RoomSession>);

impl ClientArgs {
    /// Connects a socket to `address`. `name` is the name in the report, `signing` the keys of a signed link.
    pub(super) fn connect_socket(
        &self,
        address: SocketAddr,
        name: String,
        signing: Option<LinkSigning>,
    ) -> Result<ConnectedTarget, Failure> {
        let timeout = self.connect_timeout().unwrap_or(DEFAULT_CONNECT_TIMEOUT);
        let link = self.link.map(|_| LinkConfig { entropy: os::random_secret(), signing, timeout });
        let options = self.network.socket_options();
        let bound = udp::connect(address, self.socket_buffer.min(1 << 30) as usize, &options)?;
        // The system may connect to an address other than the requested one: it replaces 0.0.0.0 with 127.0.0.1.
        let address =
            bound.socket.peer_addr().context("cannot determine the address that the socket is connected to")?;
        let strays = StraySocket::beside(&bound.socket);
        let (waited, embedded, rooms) = (Duration::ZERO, None, Rooms::default());
        Ok(ConnectedTarget { address, name, link, waited, bound, strays, embedded, rooms })
    }

    /// Runs `client` until it finishes or `stop` is requested. `final_observer` receives the packets whose outcome is known only at the end
    /// of the run.
    pub(crate) fn run_client<S: Workload + Send + 'static>(
        &self,
        client: ClientNode<S>,
        target: ConnectedTarget,
        monitor: RunMonitor<'_>,
        final_observer: &mut dyn PacketObserver,
        stop: &StopToken,
    ) -> Result<FinishedRun, Failure> {
        let running = udp::spawn_node("client", vec![target.bound.socket], client, stop.clone(), self.driver_options())
            .context("cannot start a thread")?;
        let mut finished = monitor.wait(running, stop);
        let embedded_error = stop_embedded(target.embedded);
        let result = std::mem::replace(&mut finished.tally.result, Ok(()));
        let error = result.context("cannot read from the socket").err().or(embedded_error);
        let mut finished = finished.into_run(&target.name, error, stop, final_observer);
        finished.add_strays(target.strays);
        if let Some(wait) = &mut finished.run.readiness_wait {
            wait.waited_ns += saturating_nanos(target.waited);
        }
        finished.close = Box::new(|| drop(target.rooms));
        Ok(finished)
    }

    pub(super) fn driver_options(&self) -> DriverOptions {
        let follow_address =
            self.network.socket_options().local_address.is_none_or(|address| address.ip().is_unspecified());
        // A thread with the deadlines of several clients needs its processor for their packets.
        let spin_percent = if self.several_clients().is_some() { 0 } else { self.spin };
        DriverOptions::client(spin_percent, self.driver, follow_address)
    }

    pub(super) fn connect_to_member(
        &self,
        signaling: (&SignalingUrl, &Arc<ClientConfig>),
        command: &str,
        stop: &StopToken,
    ) -> Result<ConnectedTarget, Failure> {
        let own = LinkKey::from_seed(&os::random_secret());
        let link_key = self.link.map(|_| own.public());
        let options = self.network.socket_options();
        let (session, address) =
            self.room.join(signaling, &format!("jamjam-dev {command}"), link_key, &options, stop)?;
        let signing = match self.link {
            Some(ClientLinkMode::Signed) => {
                let announced = session.link_keys.get(&address).and_then(|key| parse_link_key(key.as_deref()?));
                let server = announced.with_context(|| {
                    format!(
                        "the member of room `{}` announces no link key, which --link signed needs. Give --signaling-url http://HOST or \
                         ws://HOST/v1/signaling, where link keys are announced. Start echo-server without --no-link-key and --link \
                         plain. Or give --link unsigned",
                        session.room_name
                    )
                })?;
                Some(LinkSigning { own, server })
            }
            _ => None,
        };
        let mut target = self.connect_socket(address, format!("{} ({address})", session.room_name), signing)?;
        // Advertise the local address of this socket to the other members of the room.
        if let Ok(local) = target.bound.socket.local_addr() {
            session.advertise(local);
        }
        // Other members may send to this port, too.
        target.strays = None;
        target.rooms.0.push(session);
        Ok(target)
    }

    pub(super) fn start_embedded_server(&self) -> Result<ConnectedTarget, Failure> {
        let delay = self.delay.unwrap_or(EMBEDDED_DELAY);
        let config = EchoConfig { delay, ..EchoConfig::default() };
        let (used, reproduce_options, outcome_log) = self.impairment.prepare()?;
        let echo = echo::EchoServer::new(config).with_impairment(used);
        let loopback = match self.network.socket_options().local_address {
            Some(SocketAddr::V6(_)) => IpAddr::from(Ipv6Addr::LOCALHOST),
            _ => Ipv4Addr::LOCALHOST.into(),
        };
        let server = EchoServer::start_on(loopback, echo, self.spin, self.driver)
            .context("cannot start the embedded echo server")?;
        let suffix = reproduce_options.map_or_else(String::new, |options| format!(", {options}"));
        let name = format!("embedded echo server ({} ms{suffix})", delay.as_secs_f64() * 1e3);
        let mut target = self.connect_socket(server.addr(), name, None)?;
        target.embedded = Some((server, outcome_log));
        Ok(target)
    }
}

impl FinishedRun {
    /// Adds the datagrams that other addresses than the peer have sent.
    pub(super) fn add_strays(&mut self, strays: Option<StraySocket>) {
        if let Some((count, source)) = strays.map(StraySocket::received) {
            self.run.stray += count;
            self.run.stray_source = source;
        }
    }
}

/// Ends the embedded echo server. Returns the first error.
pub(super) fn stop_embedded(embedded: Option<(EchoServer, Option<OutcomeLogFile>)>) -> Option<anyhow::Error> {
    let (server, outcome_log) = embedded?;
    let stopped = server.stop();
    let outcome_log = outcome_log.map_or(Ok(()), OutcomeLogFile::finish);
    stopped.context("the embedded echo server failed").and(outcome_log).err()
}

impl Drop for Rooms {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(RoomSession::start_leaving);
        if let Some(error) = self.0.iter_mut().filter_map(RoomSession::leave_room).last() {
            let text = "the connection to the signaling server was lost; the run continued without it";
            print_notice(&format!("{text}: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::tests::parse;
    use crate::cli::plan::UdpPeer;
    use crate::cli::target::Endpoint;

    #[test]
    #[cfg(target_os = "linux")]
    fn target_0_0_0_0_is_connected_as_127_0_0_1() {
        let target = Endpoint { host: "0.0.0.0".to_owned(), port: 5_000 };
        let Ok(connected) = parse(&[]).connect(&UdpPeer::Host(&target), "send", &StopToken::default()) else {
            panic!("a socket to this machine")
        };
        assert_eq!(connected.address, SocketAddr::from(([127, 0, 0, 1], 5_000)));
    }
}
