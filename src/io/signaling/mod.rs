//! The client's side of jamjam's signaling: a connection, and the echo server's registration over one.

mod connection;
mod pauses;
mod reach;
mod registration;
mod url;

pub use connection::{ConnectError, Connection, Lost};
pub use reach::{Own, outward_address};
pub use registration::Registration;
pub use url::{SignalingUrl, UrlError};
