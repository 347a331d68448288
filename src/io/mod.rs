//! Everything that performs I/O: sockets, threads, clocks, files and devices.

// Tests run it on every system.
#[cfg(any(windows, test))]
mod alarm;
pub(crate) mod capture;
pub(crate) mod clock;
pub mod connection_permit;
pub(crate) mod files;
pub mod http;
pub mod local_socket;
pub(crate) mod log;
pub mod machine;
pub(crate) mod memory;
pub mod moqt;
pub mod os;
pub(crate) mod outcome_log;
mod poller;
pub(crate) mod reachable;
pub(crate) mod read_ahead;
pub mod recorder;
pub mod resolve;
pub(crate) mod shell_command;
pub mod signaling;
pub(crate) mod sound;
pub(crate) mod source_files;
pub mod source_recorder;
pub(crate) mod status_line;
pub mod stop;
pub mod tls;
pub mod udp;
pub mod websocket {
    //! WebSocket (RFC 6455): opening handshake, and the server's connections.

    mod checked_stream;
    pub mod connect;
    pub(in crate::io) mod connection;
    pub mod handshake;
}
pub mod worker;
