//! What requests and answers look like, for the description of the HTTP API. Requests are read member by member, to say what is
//! wrong with each; answers are the hub's own words.

#![expect(dead_code, reason = "it describes what others read and write")]

use utoipa::ToSchema;

/// A room to be made.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct NewRoom {
    /// Most clients at a time; without it --bbx-max-clients.
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_clients: Option<u64>,
    /// Seconds; without it --bbx-room-expiration.
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_in: Option<f64>,
}

/// A room that was made.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct MadeRoom {
    #[schema(example = "4711")]
    code: String,
    /// Milliseconds since 1970.
    expires_at: u64,
}

/// A room and how many are in it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct Room {
    #[schema(example = "4711")]
    code: String,
    clients: u64,
    /// Milliseconds since 1970.
    created_at: u64,
    /// Milliseconds since 1970.
    expires_at: u64,
}

/// All rooms, in the order of their making.
#[derive(ToSchema)]
pub(super) struct SurfaceRooms {
    rooms: Vec<Room>,
}

/// A room that was closed.
#[derive(ToSchema)]
pub(super) struct ClosedRoom {
    closed: bool,
    /// How many were in it.
    clients: u64,
}

/// A parameter's new value.
#[derive(ToSchema)]
pub(super) struct Param {
    #[schema(max_length = 256)]
    name: String,
    value: f32,
    /// The code of the one room that is meant; without it all are.
    room: Option<String>,
}

/// What a parameter's values are meant to lie in.
#[derive(ToSchema)]
pub(super) struct ParamRange {
    min: f32,
    max: f32,
    /// Sets the parameter too.
    value: Option<f32>,
}

/// Numbers to be shown.
#[derive(ToSchema)]
pub(super) struct Visualization {
    #[schema(max_items = 65_536)]
    data: Vec<f32>,
    /// The code of the one room that is meant; without it all are.
    room: Option<String>,
}

/// Clients were told.
#[derive(ToSchema)]
pub(super) struct Delivered {
    /// How many.
    delivered: u64,
}
