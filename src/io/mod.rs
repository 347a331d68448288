//! The room that acts: sockets, threads, clocks, files, devices.

pub mod clock;
pub mod complaints;
pub mod entropy;
pub mod fate_log;
pub mod feed;
pub mod http;
pub mod intake;
pub mod log;
pub mod moqt;
pub mod moqt_page;
pub mod process;
pub mod progress;
pub mod reach;
pub mod resolve;
pub mod rooms;
pub mod signaling;
pub mod sound;
pub mod stop;
pub mod tape;
pub mod tls;
pub mod udp;
pub mod websocket;
pub mod whole_file;
