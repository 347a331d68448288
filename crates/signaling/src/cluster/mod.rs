//! Rooms that several processes share: each process has a copy of the rooms of its members, and applies one log of entries to it.
//!
//! In a cluster, the [`Hub`](super::Hub) of a process is its *lobby*: it has all connections of the process, but no rooms. What concerns one
//! connection happens there, and yields a [`Plan`] of what is to be appended to the log of a room. A [`Replica`] is a hub with one
//! room and all of its members, local and remote. It applies the entries of the log in order, with the code that a process without a cluster
//! uses, and sends only to local members. Its time, ids and members come from the entries alone, so that equal logs make equal rooms.
//!
//! Where the log is, and how entries reach the processes, is decided by the caller.

mod entry;
mod execute;
mod lobby;
mod plan;
mod replica;
mod saved;

pub use entry::{Command, Entrance, Entry, FORMAT, RoomReply, RoomRequest, SavedClose};
pub use plan::Plan;
pub use replica::{Applied, Replica, RoomDescription};

pub(super) use lobby::{Lobby, MemberFacts, ReplicaRole};
pub(super) use plan::{is_member, plan_append};
