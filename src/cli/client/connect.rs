//! Connects the socket of a run over UDP, with the retries of `--wait-for`.

use std::thread;
use std::time::{Duration, Instant};

use super::udp::{ConnectedTarget, UdpClient, UdpPeer};
use crate::cli::options::room_target::tls_config;
use crate::cli::output::Failure;
use crate::cli::target::Endpoint;
use crate::client::StopSignal;
use crate::io::resolve::{self, ResolveError};
use crate::io::signaling::client::RoomSessionError;
use crate::io::stop::StopToken;
use crate::io::udp::BindError;
use crate::signaling::client::RoomError;

/// Pause between two attempts with `--wait-for`.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

impl UdpClient<'_> {
    /// Connects a socket to the other end. `command` becomes part of the member name in a room.
    pub(crate) fn connect(&self, command: &str, stop: &StopToken) -> Result<ConnectedTarget, Failure> {
        let (started, this_thread) = (Instant::now(), thread::current());
        stop.on_stop(move || this_thread.unpark());
        let attempt: Box<dyn Fn() -> Result<ConnectedTarget, Failure>> = match &self.peer {
            UdpPeer::Embedded(impairment) => Box::new(|| self.start_embedded_server(impairment)),
            UdpPeer::Room(room) => {
                let tls = tls_config(&room.url, room.trust)?;
                Box::new(move || self.connect_to_member(room, &tls, command, stop))
            }
            UdpPeer::Host(target) => Box::new(move || self.connect_to_host(target, started, stop)),
        };
        loop {
            let failure = match attempt() {
                Ok(target) => return Ok(ConnectedTarget { waited: started.elapsed(), ..target }),
                Err(failure) => failure,
            };
            let retries = self.may_retry(started) && is_transient(&failure);
            if retries && stop.signal().is_none() {
                thread::park_timeout(RETRY_INTERVAL);
            }
            let code = stop.signal().map_or(failure.code, StopSignal::exit_code);
            if code != failure.code {
                return Err(Failure { code, error: failure.error.context("interrupted while connecting") });
            }
            if !retries {
                return Err(failure);
            }
        }
    }

    /// Whether `--wait-for` permits another attempt to connect.
    fn may_retry(&self, started: Instant) -> bool {
        self.timing.wait_for.is_some_and(|wait| started.elapsed() + RETRY_INTERVAL < wait)
    }

    /// Connects a socket to `target`. It is an error if none of several addresses replies and --wait-for permits another attempt.
    fn connect_to_host(
        &self,
        target: &Endpoint,
        started: Instant,
        stop: &StopToken,
    ) -> Result<ConnectedTarget, Failure> {
        let found = resolve::resolve_until_stopped(&target.host, target.port, stop)?;
        let candidates = self.local.select(&target.host, found)?;
        let address = match candidates.as_slice() {
            [only] => *only,
            several => match resolve::first_reachable(several, &self.local, stop) {
                Ok(address) => address,
                Err(_) if self.may_retry(started) => {
                    return Err(ResolveError::NoReply(format!("no address of {target} replies")).into());
                }
                Err(_) => several[0],
            },
        };
        self.connect_socket(address, target.to_string(), None)
    }
}

/// Whether a later attempt to connect may succeed, because a name, a route, the server or its room is missing.
fn is_transient(failure: &Failure) -> bool {
    let error = &failure.error;
    let room = error.downcast_ref().is_some_and(|error| match error {
        RoomSessionError::Room(error) => {
            matches!(error, RoomError::NotFound { .. } | RoomError::NoPeer(_))
        }
        error => matches!(error, RoomSessionError::Connect(error) if error.is_transient()),
    });
    let is_missing = error.downcast_ref().is_some_and(|error| !matches!(error, ResolveError::Zone(_)));
    room || is_missing || matches!(error.downcast_ref(), Some(BindError::Other(..)))
}
