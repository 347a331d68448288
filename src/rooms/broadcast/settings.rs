//! What all broadcast rooms have in common.

use std::time::Duration;

use super::token::Secret;

/// The longest message of a member unless told otherwise, in bytes.
pub const PAYLOAD_BYTES: usize = 10 << 20;

/// Types of messages that are acknowledged and not relayed unless told otherwise, as a list.
pub const SUPPRESSED: &str = "keepalive,ack";

/// What all broadcast rooms have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What tokens are signed with; without one no token is worth anything.
    pub secret: Option<Secret>,
    /// What is relayed looks like this.
    pub envelope: Envelope,
    /// Types of messages that are acknowledged and not relayed, in any case.
    pub suppressed: Vec<String>,
    /// How long a member may say nothing. `None` is for ever.
    pub idle: Option<Duration>,
    /// How long a connection may last. `None` is for ever.
    pub age: Option<Duration>,
    /// Whether a control channel needs no token.
    pub open_control: bool,
    /// Longest message of a member, in bytes.
    pub payload_bytes: usize,
    /// Delayed messages that may wait for one room.
    pub waiting: usize,
    /// Bytes that may wait for all rooms together.
    pub waiting_bytes: usize,
}

impl Default for Settings {
    /// No secret, the documented frame, `keepalive` and `ack` suppressed, 10 MiB, 10,000 and 64 MiB waiting.
    fn default() -> Self {
        Self {
            secret: None,
            envelope: Envelope::default(),
            suppressed: SUPPRESSED.split(',').map(str::to_owned).collect(),
            idle: None,
            age: None,
            open_control: false,
            payload_bytes: PAYLOAD_BYTES,
            waiting: 10_000,
            waiting_bytes: 64 << 20,
        }
    }
}

/// What relayed messages look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Envelope {
    /// As the documentation has it.
    #[default]
    Document,
    /// As Dynode's players parse it.
    Dynode,
}
