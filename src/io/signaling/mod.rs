//! The client's side of jamjam's signaling: a connection, and over one the echo server's registration or a
//! client's visit.

mod advice;
mod connection;
mod pauses;
mod reach;
mod registration;
mod url;
mod visit;

pub use connection::{ConnectError, Connection, Lost};
pub(super) use connection::{PATIENCE, addresses, config, connect, prepare};
pub use reach::{Own, outward_address};
pub use registration::Registration;
pub use url::{SignalingUrl, UrlError};
pub use visit::{Visit, VisitError, list};
