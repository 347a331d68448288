//! Everything that performs I/O: sockets, threads, clocks, files and devices.

pub mod capture;
pub mod clock;
pub mod connection_permit;
pub mod files;
pub mod http;
pub mod local_socket;
pub mod log;
pub mod machine;
pub mod memory;
pub mod moqt;
pub mod os;
pub mod outcome_log;
mod poller;
pub mod reachable;
pub mod read_ahead;
pub mod recorder;
pub mod resolve;
pub mod shell_command;
pub mod signaling;
pub mod sound;
pub mod source_files;
pub mod source_recorder;
pub mod status_line;
pub mod stop;
pub mod tls;
pub mod udp;
pub mod websocket {
    //! WebSocket (RFC 6455): opening handshake, connections, send queues, and the probe's client.

    mod checked_stream;
    pub mod connect;
    pub(in crate::io) mod connection;
    pub mod discovery;
    pub(in crate::io) mod frame;
    pub mod handshake;
    pub mod probe;
    mod probe_socket;
    pub mod send_queue;
}
pub mod worker;
