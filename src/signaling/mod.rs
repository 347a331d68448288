//! The signaling server without sockets: connections, rooms and messages of all dialects.
//!
//! The [`Hub`] receives the messages of connections and passes the messages for them to an [`EventSink`]. Each dialect is one file with a
//! `DialectHandler`; the dialects share rooms, timers, limits and counters. [`client`] is the other end of the jamjam dialect.
//!
//! To add a dialect, add its file and a variant of [`Dialect`], and list it in [`Dialect::ALL`]. The compiler requires the rest, which is in
//! this file.

mod activity_log;
pub mod broadcast;
pub mod client;
mod close_code;
mod control_surface;
mod control_surface_events;
mod counters;
mod dialect_set;
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

use serde::{Deserialize, Serialize};

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
pub use dialect_set::DialectSet;
pub use hub::Hub;
pub use limits::{ControlSurfaceLimits, DEFAULT_MAX_MESSAGE_BYTES, Heartbeat, SignalingLimits};
pub use route::{
    BearerToken, BroadcastParams, InvalidRoomName, Route, RouteError, decode_room_name, is_valid_room_name, route,
};
pub use snapshot::{
    AddressSnapshot, ConnectionSnapshot, MAX_SNAPSHOT_MEMBERS, MAX_SNAPSHOT_ROOMS, RoomSnapshot, Snapshot,
    SnapshotQuery,
};

/// A signaling dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// The protocol of the jamjam app.
    Jamjam,
    /// Broadcast rooms: each message is relayed to all other members.
    Broadcast,
    /// Control surfaces: clients set parameters of a program.
    #[serde(rename = "bbx")]
    ControlSurface,
    /// WebRTC signaling: messages are relayed to one participant.
    WebRtc,
}

impl Dialect {
    /// All dialects.
    pub const ALL: [Self; 4] = [Self::Jamjam, Self::Broadcast, Self::ControlSurface, Self::WebRtc];

    /// The name in options, metrics, `/health` and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jamjam => "jamjam",
            Self::Broadcast => "broadcast",
            Self::ControlSurface => "bbx",
            Self::WebRtc => "webrtc",
        }
    }

    /// The description in `--help`.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Jamjam => "Rooms of the jamjam app",
            Self::Broadcast => "Broadcast rooms, with tokens",
            Self::ControlSurface => "Control surfaces",
            Self::WebRtc => "WebRTC signaling",
        }
    }

    /// How a prober measures a server.
    pub const fn probe(self) -> ProbeProtocol {
        let (request_type, response_type, matching, room) = match self {
            Self::Jamjam => ("ListRooms", "RoomList", ResponseMatching::Order, ProbeRoom::None),
            Self::Broadcast => ("broadcast", "broadcast", ResponseMatching::Marker, ProbeRoom::TwoMembers),
            Self::ControlSurface => ("ping", "pong", ResponseMatching::Timestamp, ProbeRoom::Code),
            Self::WebRtc => ("ping", "pong", ResponseMatching::Order, ProbeRoom::Query),
        };
        ProbeProtocol { request_type, response_type, matching, room }
    }

    /// Whether a URL selects this dialect. If it selects none, the first message does.
    fn is_selected_by(self, path: &str, query: &str) -> bool {
        match self {
            Self::Jamjam | Self::ControlSurface => false,
            Self::Broadcast => BroadcastParams::are_in(path, query),
            Self::WebRtc => webrtc::is_selected_by(path, query),
        }
    }

    /// The route of a URL that selects this dialect, or of any URL if there is no other dialect.
    fn route(self, path: &str, query: &str) -> Route {
        match self {
            Self::Jamjam | Self::ControlSurface => Route::Undecided,
            Self::Broadcast => Route::Broadcast(BroadcastParams::from_url(path, query)),
            Self::WebRtc => Route::Selected(self, query.to_owned()),
        }
    }
}

/// The messages with which a prober measures a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeProtocol {
    /// The type of the message that a prober sends.
    pub request_type: &'static str,
    /// The type of the message that answers it.
    pub response_type: &'static str,
    /// What identifies the request of a response.
    pub matching: ResponseMatching,
    /// The room in which a prober measures.
    pub room: ProbeRoom,
}

/// What identifies the request of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseMatching {
    /// The order of messages, which TCP preserves.
    Order,
    /// A timestamp that the response returns.
    Timestamp,
    /// A marker in the content.
    Marker,
}

/// The room in which a prober measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeRoom {
    /// None: requests are answered outside rooms.
    None,
    /// None, or the room that the first message joins by its code.
    Code,
    /// The room and user in the query. A welcome ends the join.
    Query,
    /// A room in the URL with two members, one of which sends and the other receives. A welcome ends each join.
    TwoMembers,
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialect_name_equals_the_serialized_name() {
        for dialect in Dialect::ALL {
            assert_eq!(serde_json::to_value(dialect).ok(), Some(dialect.name().into()));
        }
    }
}
