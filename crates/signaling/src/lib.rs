//! The signaling server without sockets: connections, rooms and messages of all dialects.
//!
//! The [`Hub`] receives the messages of all connections and fills their [`send queues`](send_queue). Each dialect is a module: it parses messages,
//! finds the room of each, and lets it act. A room is a value, which leaves what it sends and closes as the effects of a call. All dialects
//! share the directory of rooms, timers, limits and counters. [`client`] is the client side of the jamjam dialect, and [`device`] checks with
//! which device a client has signed its upgrade request. `CONTRIBUTING.md` lists the files that a new dialect touches.

mod activity_log;
pub mod broadcast;
mod call;
pub mod client;
mod close_code;
mod control_surface;
mod control_surface_events;
mod counters;
pub mod device;
mod dialect;
mod hub;
mod hub_commands;
mod hub_connections;
mod hub_links;
mod hub_posts;
mod id_generator;
pub mod jamjam;
mod json;
mod limits;
mod lock;
pub mod message_docs;
mod room;
mod rooms;
mod route;
pub mod send_queue;
mod server;
mod snapshot;
mod strict;
mod timers;
pub mod token;
mod webrtc;

pub use activity_log::{ActivityEntry, ActivityKind, ActivityOutcome};
pub use call::REJECTED_CONNECTION;
pub use close_code::{CloseCode, WebSocketError};
pub use control_surface::{ALL_WRONG_CODES_RATE, WRONG_CODE_RATE};
pub use control_surface_events::{
    ControlSurfaceEvent, ControlSurfaceEventKind, EventConsumer, EventProducer, InlineStr, ROOM_CODE_DIGITS,
    event_queue,
};
pub use counters::{DialectCounters, UNDECIDED};
pub use dialect::{Dialect, DialectFacts, ProbeMethod};
pub use hub::{Hub, Message};
pub use hub_commands::{CommandError, ControlSurfaceRoomInfo, CreateRoomOptions, CreatedRoom};
pub use hub_connections::NewConnection;
pub use hub_posts::{AcceptedPost, BroadcastRoomDetails, PostError, PostFormat};
pub use jamjam::WRONG_PASSWORD_RATE;
pub use json::{integer, optional_integer};
pub use limits::{ControlSurfaceLimits, DEFAULT_TEST_ROOM_PREFIX, Heartbeat, SignalingLimits};
pub use route::{
    BearerToken, BroadcastParams, NEWER_PATH, Route, WebRtcParams, decode_room_name, is_valid_room_name, route,
};
pub use server::{ConnId, EventListener, MAX_POSTPONEMENT, Observer, REQUESTED_BYTES_PER_SECOND};
pub use snapshot::{ConnectionSnapshot, RoomSnapshot, Snapshot};
pub use strict::{REFUSED, STRICT_RULES};
pub use webrtc::{MAX_WEBRTC_ROOM_BYTES, WebRtcRoomInfo};
