//! Servers in the process of a test. Each server runs on threads of its own, so that the test needs no async runtime. A server stops when
//! its value is dropped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::client::StopSignal;
use crate::echo::{self, Counters, EchoConfig, LinkConfig, LinkPolicy};
use crate::io::signaling::{self, SignalingServerConfig};
use crate::io::stop::StopToken;
use crate::io::udp::{self, Backend, DEFAULT_RECEIVE_BUFFER, DEFAULT_SPIN_PERCENT, DriverOptions, NodeThread};
use crate::io::{http, os};
use crate::link::LinkKey;
use crate::signaling::{DialectCounters, Hub, SignalingLimits};

/// An echo server on a free port of 127.0.0.1.
pub struct EchoServer {
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: StopToken,
    running: Option<NodeThread<echo::EchoServer>>,
}

impl EchoServer {
    /// Starts a server with plain and encrypted links. Fails if the system provides no socket or no thread.
    pub fn start(config: EchoConfig) -> io::Result<Self> {
        Self::start_node(echo::EchoServer::new(config))
    }

    /// Starts `echo`, which may have an impairment ([`echo::EchoServer::with_impairment`]).
    pub fn start_node(echo: echo::EchoServer) -> io::Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), echo, DEFAULT_SPIN_PERCENT, Backend::default())
    }

    /// Starts `echo` on a free port of `host`.
    pub(crate) fn start_on(
        host: IpAddr,
        mut echo: echo::EchoServer,
        spin_percent: u8,
        backend: Backend,
    ) -> io::Result<Self> {
        let link_key = LinkKey::from_seed(&os::random_secret());
        echo.enable_links(LinkConfig { policy: LinkPolicy::Auto, link_key, entropy: Box::new(os::random_secret) });
        let bound = udp::bind(SocketAddr::new(host, 0), DEFAULT_RECEIVE_BUFFER).map_err(io::Error::other)?;
        let (counters, stop) = (echo.counters(), StopToken::default());
        let options = DriverOptions::server(spin_percent, backend);
        let running = Some(udp::spawn_node("echo-server", vec![bound.socket], echo, stop.clone(), options)?);
        Ok(Self { address: bound.address, counters, stop, running })
    }

    /// The address and port.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The counters, which change while the server runs.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Stops the server. Replies that wait for their delay are dropped and counted. Returns the error of the socket if the server has
    /// ended because of one.
    pub fn stop(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        self.stop.request(StopSignal::Terminate);
        let Some(running) = self.running.take() else { return Ok(()) };
        let (echo, tally) = running.join();
        echo.stop();
        tally.result
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// A signaling server on a free port of 127.0.0.1, without TLS.
pub struct SignalingServer {
    address: SocketAddr,
    stop: StopToken,
    running: signaling::ServerThread,
}

impl SignalingServer {
    /// Starts a server without rooms. It accepts 64 connections at a time. Fails if the system provides no socket, thread or event loop.
    pub fn start(limits: SignalingLimits) -> io::Result<Self> {
        Self::start_hub(Hub::new(limits, os::random_u64s()), SignalingServerConfig::default())
    }

    /// Starts a server for `hub`, which may have rooms and room handlers.
    pub fn start_hub(hub: Hub, config: SignalingServerConfig) -> io::Result<Self> {
        let listener = http::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let (address, stop) = (listener.local_addr()?, StopToken::default());
        Ok(Self { address, running: signaling::spawn(listener, hub, config, &stop)?, stop })
    }

    /// The address and port. Clients connect to `ws://` followed by this address.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The counters of all dialects together.
    pub fn counters(&self) -> DialectCounters {
        self.running.hub.total_counters()
    }

    /// Closes all connections and stops the server. Waits up to 5 s for clients that do not answer the close.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for SignalingServer {
    fn drop(&mut self) {
        self.stop.request(StopSignal::Terminate);
        self.running.worker.finished_within(signaling::SHUTDOWN_TIMEOUT * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Header, PacketType};
    use std::net::{TcpListener, UdpSocket};
    use tungstenite::Message;

    #[test]
    fn stop_drops_waiting_echoes_and_drop_frees_the_port() {
        let packet = Header::new(PacketType::Audio, 0, 0).to_bytes();
        let send_and_wait = |server: &EchoServer| {
            let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            client.send_to(&packet, server.addr()).expect("sent");
            while server.counters().buffered.get() == 0 {
                std::thread::yield_now();
            }
        };
        let server = EchoServer::start(EchoConfig::default()).expect("a server");
        let counters = Arc::clone(&server.counters);
        send_and_wait(&server);
        server.stop().expect("no error of the socket");
        assert_eq!((counters.received.get(), counters.dropped_at_stop.get(), counters.buffered.get()), (1, 1, 0));

        let server = EchoServer::start(EchoConfig::default()).expect("a server");
        send_and_wait(&server);
        let address = server.addr();
        drop(server);
        UdpSocket::bind(address).expect("the port is free");
    }

    #[test]
    fn signaling_server_answers_counts_and_closes_its_connections() {
        let server = SignalingServer::start(SignalingLimits::default()).expect("a server");
        let address = server.addr();
        let (mut client, _) = tungstenite::connect(format!("ws://{address}")).expect("a connection");
        client.send(Message::text(r#"{"type":"ListRooms"}"#)).expect("sent");
        assert_eq!(client.read().expect("a reply"), Message::text(r#"{"type":"RoomList","data":{"rooms":[]}}"#));
        let counters = server.counters();
        assert_eq!((counters.connections, counters.messages_received, counters.messages_sent), (1, 1, 1));
        let client = std::thread::spawn(move || {
            let close = client.read().expect("a close frame");
            // Answers the close frame.
            while client.read().is_ok() {}
            close
        });
        server.stop();
        assert!(matches!(client.join(), Ok(Message::Close(Some(frame))) if u16::from(frame.code) == 1_001));
        TcpListener::bind(address).expect("the port is free");
    }
}
