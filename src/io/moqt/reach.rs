//! The way of a client to a server: the name, the handshake, and WebTransport's request, each timed.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use quinn::{ClientConfig, Connection, Endpoint};
use url::Url;

use super::client::{Dial, DialError};
use super::over::Over;
use super::webtransport::{NoSession, WebTransportSession};
use super::{Target, quic};
use crate::flow::moqt::SetUp;
use crate::io::resolve::{ResolveError, resolve};
use crate::moqt::Transport;
use crate::time::nanos;

/// How long the system may look for a name: it asks a second name server after 5 s.
pub(super) const NAME: Duration = Duration::from_secs(10);

/// How long one address is tried before the next is; of many, less: all but the last together for as long as the last.
const NEXT: Duration = Duration::from_secs(1);

/// A server that was reached.
pub(super) struct Reached {
    pub(super) endpoint: Endpoint,
    pub(super) over: Over,
    pub(super) set_up: SetUp,
    pub(super) address: SocketAddr,
}

/// Calls a server.
pub(super) async fn reach(dial: &Dial) -> Result<Reached, DialError> {
    let Dial { target, verifier, trust, limits, .. } = dial;
    let began = Instant::now();
    let addresses = find(target).await?;
    let name = began.elapsed();
    trust.refuse_anybody_afar(&addresses)?;
    let config = quic::client(verifier.clone(), target.transport, limits)
        .map_err(|error| DialError::Failed { target: target.clone(), reason: error.to_string() })?;
    let began = Instant::now();
    let (endpoint, connection, address) = shake_hands(target, &addresses, &config, limits.setup).await?;
    let mut set_up = SetUp { name_ns: Some(nanos(name)), quic_ns: Some(nanos(began.elapsed())), ..SetUp::default() };
    let over = match target.transport {
        Transport::Quic => Over::Quic(connection),
        Transport::WebTransport => {
            let began = Instant::now();
            let session = ask(target, &connection, limits.setup).await?;
            set_up.connect_ns = Some(nanos(began.elapsed()));
            Over::WebTransport(connection, session)
        }
    };
    Ok(Reached { endpoint, over, set_up, address })
}

/// Looks for a host's addresses beside this thread, which has to hear a request to stop meanwhile.
async fn find(target: &Target) -> Result<Vec<SocketAddr>, ResolveError> {
    let (host, port) = (target.host.clone(), target.port);
    let failed = |error: io::Error| ResolveError::Unknown { host: target.host.clone(), error };
    match tokio::time::timeout(NAME, tokio::task::spawn_blocking(move || resolve(&host, port))).await {
        Ok(found) => found.map_err(|panicked| failed(panicked.into()))?,
        Err(elapsed) => Err(failed(elapsed.into())),
    }
}

/// Tries one address after the other.
async fn shake_hands(
    target: &Target,
    addresses: &[SocketAddr],
    config: &ClientConfig,
    patience: Duration,
) -> Result<(Endpoint, Connection, SocketAddr), DialError> {
    let mut error = DialError::Silent { target: target.clone(), waited: patience };
    let many = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for (place, address) in addresses.iter().enumerate() {
        let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let endpoint = match Endpoint::client(SocketAddr::new(any, 0)) {
            Ok(endpoint) => endpoint,
            Err(failed) => {
                error = DialError::Socket(failed);
                continue;
            }
        };
        let failed = |reason: String| DialError::Failed { target: target.clone(), reason };
        let connecting =
            endpoint.connect_with(config.clone(), *address, &target.host).map_err(|error| failed(error.to_string()))?;
        let patience = if place + 1 < addresses.len() { NEXT.min(patience / many) } else { patience };
        match tokio::time::timeout(patience, connecting).await {
            Ok(Ok(connection)) => return Ok((endpoint, connection, *address)),
            // Somebody is there: another address would say the same.
            Ok(Err(lost)) => return Err(DialError::lost(target, &lost)),
            Err(_) => {}
        }
    }
    Err(error)
}

/// Asks for a WebTransport session.
async fn ask(target: &Target, connection: &Connection, patience: Duration) -> Result<WebTransportSession, DialError> {
    let failed = |reason: String| DialError::Failed { target: target.clone(), reason };
    let url: Url = target.to_string().parse().map_err(|error: url::ParseError| failed(error.to_string()))?;
    match tokio::time::timeout(patience, WebTransportSession::ask(connection, url)).await {
        Ok(Ok(session)) => Ok(session),
        // Who closes the connection says more by that than by the stream that is lost with it.
        Ok(Err(error @ (NoSession::Lost(_) | NoSession::Malformed(_)))) => Err(match connection.close_reason() {
            Some(lost) => DialError::lost(target, &lost),
            None => DialError::no_session(target, error),
        }),
        Ok(Err(error)) => Err(DialError::no_session(target, error)),
        Err(_) => Err(failed(format!("no answer to the WebTransport request within {patience:?}"))),
    }
}
