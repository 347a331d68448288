//! A client of the relay: its number, its addresses, and its two flows.

use std::fmt::{self, Display};
use std::net::SocketAddr;

use super::flow::Flow;
use crate::address::canonical_socket_addr;
use crate::direction::Direction;
use crate::echo::Source;
use crate::impairment::{Bottleneck, Impairment};
use crate::outcome::Route;
use crate::time::Time;

/// Where a datagram comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayRoute {
    /// The sender.
    pub from: SocketAddr,
    /// The receiver.
    pub to: SocketAddr,
    /// The direction.
    pub direction: Direction,
}

impl Route for RelayRoute {
    const COLUMNS: &str = "from,to,direction";
}

impl Display for RelayRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, direction } = self;
        write!(f, "{from},{to},{}", direction.name())
    }
}

/// A client, and what passed between it and the target.
pub struct Client {
    /// Counts the clients from 1, in the order of their first datagrams.
    pub number: u32,
    /// In the order of [`Direction::ALL`].
    pub flows: [Flow; 2],
    /// Number of ICMP port unreachable errors that its datagrams have caused.
    pub unreachable: u64,
    /// Of each direction.
    pub(super) bottlenecks: [Bottleneck; 2],
    pub(super) source: Source,
    /// When a datagram of either direction last arrived or left.
    pub(super) last_active: Time,
    /// Number of its datagrams on their paths.
    pub(super) on_path: usize,
}

impl Client {
    pub(super) fn new(number: u32, source: Source, impairments: &[Impairment; 2]) -> Self {
        let name = |direction: Direction| format!("client {number} {}", direction.name());
        Self {
            number,
            flows: Direction::ALL.map(|direction| {
                let impairment = Impairment { direction: Some(direction), ..impairments[direction as usize].clone() };
                Flow::new(&impairment, &name(direction))
            }),
            unreachable: 0,
            bottlenecks: <_>::default(),
            source,
            last_active: Time::ZERO,
            on_path: 0,
        }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        canonical_socket_addr(self.source.path.peer)
    }
}
