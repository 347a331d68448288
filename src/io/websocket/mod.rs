//! Probing over WebSocket: connections are made and rooms joined, each part timed; then the same loop that runs nodes on UDP
//! runs one on them.

mod enter;
mod open;
mod port;
mod socket;
mod waiter;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use thiserror::Error;

use crate::flow::run::Wait;
use crate::flow::websocket::{Lost, SetUp};
use crate::flow::{Asker, Dialect, Dialogue, Entrance, WallClock};
use crate::io::signaling::{self, ConnectError, SignalingUrl};
use crate::io::stop::{Reason, Stop};
use crate::io::udp::{self, Idle, Running};
use crate::time::{Time, nanos};

use enter::{Outside, join, knock};
use port::WebSocketPort;
use socket::Socket;
use waiter::Waiter;

/// Time between two attempts with `--wait-for`.
const EVERY: Duration = Duration::from_millis(100);

/// Whom to speak to, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where each connection goes: the first speaks, the last is listened to.
    pub urls: Vec<SignalingUrl>,
    /// What is spoken.
    pub dialect: Dialect,
    /// The room of control surfaces to join.
    pub code: Option<String>,
    /// Tells what this run says from what others say.
    pub nonce: u64,
}

/// Why a run cannot begin, whatever the server would say.
#[derive(Debug, Error)]
pub enum BeginError {
    /// The server cannot be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There was a request to stop.
    #[error("interrupted")]
    Stopped(Reason),
    /// The system refuses something.
    #[error("cannot use the connection: {0}")]
    Io(#[from] io::Error),
}

/// How the connections came about.
pub struct Begun {
    /// What each connection took, as far as they were made.
    pub set_ups: Vec<SetUp>,
    /// How `--wait-for` went.
    pub wait: Option<Wait>,
    /// The connections, or why questions cannot be asked.
    pub connected: Result<Connected, Lost>,
}

/// Connections over which questions may be asked.
pub struct Connected {
    port: WebSocketPort,
    /// Who answers is known by this name.
    pub peer: SocketAddr,
    wall: WallClock,
}

impl Connected {
    fn new(sockets: Vec<Socket>, waiter: Waiter) -> Self {
        // The node only compares it with whom it is to listen to.
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let wall = waiter.wall();
        Self { port: WebSocketPort::new(sockets, waiter, peer), peer, wall }
    }

    /// The conversation of `plan`.
    pub fn dialogue(&self, plan: &Plan) -> Dialogue {
        Dialogue::new(plan.dialect, plan.nonce, self.wall)
    }

    /// Runs `node` on a thread of its own. A connection that is lost ends it with an error that holds [`Lost`].
    pub fn spawn(self, mut node: Asker, stop: Stop, spin: u8) -> io::Result<Running<Asker>> {
        let mut port = self.port;
        Running::start("client", move || {
            waiter::sharpen();
            let tally = udp::drive(&mut port, &mut node, &stop, Idle::Finish, spin);
            if tally.result.is_ok() {
                port.farewell();
            }
            (node, tally)
        })
    }
}

/// Whether a server may let us in later: it is not quite there yet, is going away, or is full. One that has other reasons is not asked
/// again: codes that are tried are counted.
fn comes_back(lost: &Lost) -> bool {
    match lost {
        Lost::Broken(_) => true,
        Lost::Closed { code, .. } => matches!(code, None | Some(1_001 | 1_006 | 1_012 | 1_013)),
        Lost::Unreachable(_) | Lost::Refused(_) => false,
    }
}

/// Makes the connections of `plan`. With `wait_for` it tries again until there is an answer, or its time is over.
pub fn begin(
    plan: &Plan,
    tls: &Arc<ClientConfig>,
    wait_for: Option<Duration>,
    stop: &Stop,
) -> Result<Begun, BeginError> {
    let mut waiter = Waiter::new(stop)?;
    let began = waiter.now();
    let until = wait_for.map_or(Time::from_nanos(u64::MAX), |patience| began + patience);
    loop {
        let mut set_ups = Vec::new();
        let attempt = connect(plan, tls, &mut waiter, until, &mut set_ups);
        let so_far = |waiter: &Waiter, answered| {
            wait_for.map(|_| Wait { waited_ns: nanos(waiter.now().since(began)), answered })
        };
        let lost = match attempt {
            Ok(mut sockets) => match greet(plan, &mut sockets, &mut waiter, wait_for.map(|_| until)) {
                Ok(()) => {
                    let wait = so_far(&waiter, true);
                    return Ok(Begun { set_ups, wait, connected: Ok(Connected::new(sockets, waiter)) });
                }
                Err(Outside::Begin(error)) => return Err(error),
                Err(Outside::Lost(lost)) => lost,
            },
            Err(Outside::Lost(lost)) => lost,
            Err(Outside::Begin(BeginError::Connect(error))) if may_pass(&error) => {
                let again = waiter.now() + EVERY;
                if wait_for.is_some() && again < until {
                    match open::pause(&mut waiter, again) {
                        Ok(()) | Err(BeginError::Connect(_)) => continue,
                        Err(error) => return Err(error),
                    }
                }
                Lost::Unreachable(match error {
                    ConnectError::Overdue if wait_for.is_some() => "no connection was made in that time".to_owned(),
                    error => error.to_string(),
                })
            }
            Err(Outside::Begin(error)) => return Err(error),
        };
        let again = waiter.now() + EVERY;
        if wait_for.is_some() && again < until && comes_back(&lost) {
            match open::pause(&mut waiter, again) {
                Ok(()) | Err(BeginError::Connect(_)) => continue,
                Err(error) => return Err(error),
            }
        }
        return Ok(Begun { set_ups, wait: so_far(&waiter, false), connected: Err(lost) });
    }
}

/// Whether it may be otherwise a moment later. A host without an address and a certificate that nobody believes are no news of the
/// server.
fn may_pass(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Refused { .. } | ConnectError::Upgrade { .. } | ConnectError::Overdue)
}

/// Opens every connection, and joins with it.
fn connect(
    plan: &Plan,
    tls: &Arc<ClientConfig>,
    waiter: &mut Waiter,
    until: Time,
    set_ups: &mut Vec<SetUp>,
) -> Result<Vec<Socket>, Outside> {
    let mut sockets = Vec::new();
    for (number, url) in plan.urls.iter().enumerate() {
        let opened = open::open(url, tls, waiter, number, until);
        let (mut socket, mut set_up) = opened.map_err(Outside::Begin)?;
        let entrance = Entrance::new(plan.dialect, plan.code.clone());
        let joining = (!entrance.is_in()).then(|| waiter.now());
        set_ups.push(set_up);
        let patience = until.min(waiter.now() + signaling::PATIENCE);
        join(&mut socket, entrance, waiter, patience)?;
        set_up.join_ns = joining.map(|began| nanos(waiter.now().since(began)));
        set_ups[number] = set_up;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Waits for one answer if that is asked for, until `knocking`.
fn greet(plan: &Plan, sockets: &mut [Socket], waiter: &mut Waiter, knocking: Option<Time>) -> Result<(), Outside> {
    let (Some(until), [speaks, rest @ ..]) = (knocking, sockets) else { return Ok(()) };
    let dialogue = Dialogue::new(plan.dialect, !plan.nonce, waiter.wall());
    if knock(speaks, rest.last_mut(), dialogue, waiter, until)? {
        return Ok(());
    }
    Err(Outside::Lost(Lost::Broken(format!("{} was not answered", plan.dialect.question()))))
}
