//! The encrypted link of newer clients: key exchange, sealed packets, and the state of one peer.
//!
//! A client sends its public key in CONTROL and gets the server's key as the answer ([`PublicHalf`], [`exchange`]). From then on, both ends
//! seal every packet except CONTROL ([`Sealer`], [`Opener`]). `Session` is the state machine of the server: the keys that were exchanged with
//! one peer. `docs/protocol.md` specifies the link, and `fixtures/link/` contains golden datagrams.
//!
//! Random bytes are arguments. Keys are wiped when they are dropped, and types that contain secrets do not implement `Debug`.

mod keys;
mod seal_mistake;
mod sealing;
mod session;

pub use keys::{Agreement, LinkKey, PublicHalf, derive, exchange, is_signed_by, parse_link_key, public_key};
pub use seal_mistake::SealMistake;
pub use sealing::{OVERHEAD, OpenError, Opener, Sealer, append_opened, payload_range, to_opened, to_plain};
pub(crate) use session::{ControlAction, KeyId, Opened, Session};
