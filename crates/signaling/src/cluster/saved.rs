//! The state of a room as JSON.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::replica::RoomDescription;
use crate::broadcast::SavedMessage;
use crate::dialect::Dialect;
use crate::dialect_handler::DialectHandler;
use crate::event_sink::ConnId;
use crate::hub::Hub;
use crate::timers::{BroadcastTimer, ControlSurfaceTimer, ParameterSender, ScheduledUpdate, TimerEvent};
use jamjam_core::time::Time;

/// A replica as JSON.
#[derive(Serialize, Deserialize)]
pub(super) struct SavedReplica {
    pub(super) dialect: Dialect,
    /// The time of the latest entry.
    pub(super) time_us: u64,
    pub(super) description: RoomDescription,
    /// The room, if it is open.
    pub(super) room: Option<Box<RawValue>>,
    /// In the order in which they fire.
    pub(super) timers: Vec<SavedTimer>,
    /// The state of the handler of a broadcast room.
    #[serde(default)]
    pub(super) handler: Value,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SavedTimer {
    /// Nanoseconds since the Unix epoch.
    at_ns: u64,
    event: SavedEvent,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SavedEvent {
    RoomHeartbeat,
    RoomExpiry,
    DelayedMessage(Box<SavedMessage>),
    ScheduledUpdate { conn: ConnId, source: IpAddr, name: String, value: f32 },
}

impl SavedReplica {
    pub(super) fn parse(snapshot: &[u8]) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_slice(snapshot);
        // The state of a handler may contain a message of a client, whose depth was limited when it was received.
        deserializer.disable_recursion_limit();
        Self::deserialize(&mut deserializer)
    }
}

/// The timers of the room of a replica.
pub(super) fn save_timers(hub: &Hub) -> Vec<SavedTimer> {
    let saved = hub.timers.iter().filter_map(|(at, event)| {
        let event = match event {
            TimerEvent::Broadcast(BroadcastTimer::RoomHeartbeat(_)) => SavedEvent::RoomHeartbeat,
            TimerEvent::Broadcast(BroadcastTimer::DelayedMessage(id)) => {
                SavedEvent::DelayedMessage(Box::new(hub.dialects.broadcast.saved_message(*id)?))
            }
            TimerEvent::ControlSurface(ControlSurfaceTimer::RoomExpiry(_)) => SavedEvent::RoomExpiry,
            TimerEvent::ControlSurface(ControlSurfaceTimer::ScheduledUpdate { update, .. }) => {
                let ScheduledUpdate { sender: ParameterSender { conn, source }, name, value } = &**update;
                SavedEvent::ScheduledUpdate { conn: *conn, source: *source, name: name.clone(), value: *value }
            }
            TimerEvent::ConnectionCheck { .. } | TimerEvent::ActivityLogExpiry => return None,
        };
        Some(SavedTimer { at_ns: at.as_nanos(), event })
    });
    saved.collect()
}

/// Starts the timers of a restored room.
pub(super) fn restore_timers(hub: &mut Hub, saved: Vec<SavedTimer>) {
    let Hub { timers, dialects, .. } = hub;
    let (broadcast, surfaces) = (&mut dialects.broadcast, &mut dialects.control_surface.rooms);
    let broadcast_key = broadcast.only_room();
    for SavedTimer { at_ns, event } in saved {
        let at = Time::from_nanos(at_ns);
        match event {
            SavedEvent::RoomHeartbeat => {
                if let Some(key) = broadcast_key {
                    timers.insert(at, TimerEvent::Broadcast(BroadcastTimer::RoomHeartbeat(key)));
                }
            }
            SavedEvent::DelayedMessage(message) => broadcast.restore_message(*message, |id| {
                timers.insert(at, TimerEvent::Broadcast(BroadcastTimer::DelayedMessage(id)))
            }),
            SavedEvent::RoomExpiry => {
                if let Some(room) = surfaces.iter_mut().next() {
                    let expiry = ControlSurfaceTimer::RoomExpiry(room.name().into());
                    room.data.expiry_timer = timers.insert(at, TimerEvent::ControlSurface(expiry));
                }
            }
            SavedEvent::ScheduledUpdate { conn, source, name, value } => {
                if let Some(room) = surfaces.iter().next().map(|room| room.key) {
                    let update = Box::new(ScheduledUpdate { sender: ParameterSender { conn, source }, name, value });
                    let update = ControlSurfaceTimer::ScheduledUpdate { room, update };
                    timers.insert(at, TimerEvent::ControlSurface(update));
                }
            }
        }
    }
}

/// The only room of a replica, if it is open.
pub(super) fn save_room(hub: &Hub, dialect: Dialect) -> Option<Box<RawValue>> {
    let handler: &dyn DialectHandler = hub.dialects.get(dialect);
    handler.rooms().save(&hub.connections)
}
