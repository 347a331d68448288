//! A room that relays everything: every hook as it is.

use crate::rooms::handler::RoomHandler;

/// Relays everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl RoomHandler for Plain {}
