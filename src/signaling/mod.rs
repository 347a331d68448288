//! The signaling server without sockets: connections, rooms and messages of all dialects.
//!
//! The [`Hub`] receives messages from connections and sends messages to connections through an [`EventSink`]. Each dialect is one module
//! with a `DialectHandler`; the dialects share rooms, timers, limits and counters. [`client`] is the client side of the jamjam dialect.
//!
//! To add a dialect, add its module and a variant of [`Dialect`], and list it in [`Dialect::ALL`]. The compiler then reports what else to
//! add to this file. A limit is a field of [`SignalingLimits`] and an option in `src/cli/options/signaling_limits.rs`. The dialect is
//! documented in `docs/signaling-server.md`, `docs/probe.md`, `docs/measuring.md`, `docs/report.schema.json` and
//! `src/io/signaling/admin/openapi/about.md`.

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

    /// How a prober measures a server of this dialect.
    pub const fn probe(self) -> ProbeProtocol {
        let (request_type, response_type, matching, room) = match self {
            Self::Jamjam => ("ListRooms", "RoomList", ResponseMatching::Order, ProbeRoom::None),
            Self::Broadcast => ("broadcast", "broadcast", ResponseMatching::Marker, ProbeRoom::TwoMembers),
            Self::ControlSurface => ("ping", "pong", ResponseMatching::Timestamp, ProbeRoom::Code),
            Self::WebRtc => ("ping", "pong", ResponseMatching::Order, ProbeRoom::Query),
        };
        ProbeProtocol { request_type, response_type, matching, room }
    }

    /// Whether a URL selects this dialect. If a URL selects no dialect, the first message selects one.
    fn is_selected_by(self, path: &str, query: &str) -> bool {
        match self {
            Self::Jamjam | Self::ControlSurface => false,
            Self::Broadcast => BroadcastParams::are_in(path, query),
            Self::WebRtc => webrtc::is_selected_by(path, query),
        }
    }

    /// The route of a URL that selects this dialect, or of any URL if the server supports only this dialect.
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
    /// The type of the response.
    pub response_type: &'static str,
    /// How a prober finds the request to which a response belongs.
    pub matching: ResponseMatching,
    /// The room in which a prober measures.
    pub room: ProbeRoom,
}

/// How a prober finds the request to which a response belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseMatching {
    /// Responses are matched by the order of messages, which TCP preserves.
    Order,
    /// By the timestamp of the request, which the response repeats.
    Timestamp,
    /// By a marker in the content of the message.
    Marker,
}

/// The room in which a prober measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeRoom {
    /// No room: the server answers requests outside rooms.
    None,
    /// The room that the first message joins by a room code. Without a code, the prober joins no room.
    Code,
    /// The room in the query of the URL. The join is complete when the welcome message arrives.
    Query,
    /// The room in the URL, which the prober joins with two members: one sends, and the other receives. A join is complete when its welcome
    /// message arrives.
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
    /// The route that the path and query of the upgrade request select.
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

    /// Passes a control surface event to the listeners. By default, the event is dropped.
    fn control_surface_event(&mut self, event: ControlSurfaceEvent) {
        drop(event);
    }

    /// Closes a connection after all earlier messages to it are sent. The hub has already removed the connection, so a later
    /// [`Hub::on_disconnect`] has no effect.
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
