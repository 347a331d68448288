//! The signaling server without sockets: connections, rooms and messages of all dialects.
//!
//! The [`Hub`] receives the messages of connections and passes the messages for them to an [`EventSink`]. Each dialect is one file with a
//! `DialectHandler`; the dialects share rooms, timers, limits and counters. [`client`] is the other end of the jamjam dialect.

mod activity_log;
pub mod broadcast;
pub mod client;
mod close_code;
mod control_surface;
mod control_surface_events;
mod counters;
mod dialect;
mod hub;
pub mod jamjam;
mod json;
mod limits;
mod liveness;
mod rooms;
mod route;
mod snapshot;
mod timers;
pub mod token;
mod webrtc;

use std::net::IpAddr;
use std::num::NonZeroU64;

use hub::DialectHandler;

pub use activity_log::{ActivityEntry, ActivityKind, ActivityOutcome};
pub use close_code::CloseCode;
pub use control_surface::{
    CommandError, ControlSurfaceRoomInfo, CreateRoomOptions, CreatedRoom, MAX_VISUALIZATION_VALUES,
};
pub use control_surface_events::{
    ControlSurfaceEvent, ControlSurfaceEventKind, EventConsumer, EventProducer, InlineEvent, InlineStr,
    ROOM_CODE_DIGITS, event_queue,
};
pub use counters::{DialectCounters, UNDECIDED};
pub use dialect::{Dialect, DialectSet};
pub use hub::Hub;
pub use limits::{ControlSurfaceLimits, DEFAULT_MAX_MESSAGE_BYTES, Heartbeat, SignalingLimits};
pub use route::{
    BearerToken, BroadcastParams, InvalidRoomName, Route, RouteError, WebRtcParams, decode_room_name,
    is_valid_room_name, route,
};
pub use snapshot::{
    AddressSnapshot, ConnectionSnapshot, MAX_SNAPSHOT_MEMBERS, MAX_SNAPSHOT_ROOMS, RoomSnapshot, Snapshot,
    SnapshotQuery,
};

/// The number of a connection. A number is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// Identifies the value that a message updates. A newer message supersedes earlier messages with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpdateKey(pub NonZeroU64);

/// A new connection.
#[derive(Clone, Debug)]
pub struct NewConnection {
    /// The client's address.
    pub source: IpAddr,
    /// The route that the path and query of its request select.
    pub route: Route,
}

/// Receives the messages that the hub sends to connections.
pub trait EventSink {
    /// Sends the same text message to these connections, after all messages sent to them before.
    fn send(&mut self, to: &[ConnId], text: String);

    /// Sends a text message that supersedes unsent messages with the same key.
    fn send_update(&mut self, to: &[ConnId], text: String, key: UpdateKey) {
        let _ = key;
        self.send(to, text);
    }

    /// Passes an event of a control surface to the program.
    fn control_surface_event(&mut self, event: ControlSurfaceEvent) {
        drop(event);
    }

    /// Closes a connection after all messages sent to it before. The hub has removed the connection; a later [`Hub::on_disconnect`] has no
    /// effect.
    fn close(&mut self, conn: ConnId, code: u16, reason: &str);

    /// Sends a ping to a connection.
    fn ping(&mut self, conn: ConnId);

    /// Drops a connection without a close frame. The hub has removed the connection.
    fn abort(&mut self, conn: ConnId);
}

/// The state of each dialect.
#[derive(Default)]
struct DialectHandlers {
    jamjam: jamjam::JamjamDialect,
    broadcast: broadcast::BroadcastDialect,
    control_surface: control_surface::ControlSurfaceDialect,
    webrtc: webrtc::WebRtcDialect,
}

impl DialectHandlers {
    fn get(&self, dialect: Dialect) -> &dyn DialectHandler {
        match dialect {
            Dialect::Jamjam => &self.jamjam,
            Dialect::Broadcast => &self.broadcast,
            Dialect::ControlSurface => &self.control_surface,
            Dialect::WebRtc => &self.webrtc,
        }
    }

    fn get_mut(&mut self, dialect: Dialect) -> &mut dyn DialectHandler {
        match dialect {
            Dialect::Jamjam => &mut self.jamjam,
            Dialect::Broadcast => &mut self.broadcast,
            Dialect::ControlSurface => &mut self.control_surface,
            Dialect::WebRtc => &mut self.webrtc,
        }
    }
}
