//! Relays media between the members of jamjam rooms over impaired paths: the bad room.
//!
//! Each member reaches each other one through a socket of its own. The socket is announced to the one member alone, its *recipient*, and stands
//! for the other one: what the recipient sends there leaves from the socket that stands for the recipient.
//!
//! The signaling server names members and their addresses through [`MediaRooms`]. [`MediaRelay`] is the [`Node`](crate::node::Node) that
//! forwards. They share one lock.

mod destination;
mod links;
mod node;
mod recovery;
mod rooms;

pub use links::{Link, is_meant};
pub use node::{MediaObserver, MediaRelay, MediaRoute};
pub use recovery::{JUDGED_TIME, JudgedOutage, MAX_OUTAGES, Recovery};
pub use rooms::{MAX_SOCKETS, MediaMember, MediaRelayConfig, MediaRoom, MediaRooms, MemberNames};
