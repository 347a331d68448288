//! MOQT over real loopback sockets. Some tests connect our client to our server over raw QUIC and over WebTransport. Other tests use
//! hand-coded peers, which can violate the protocol.

mod echo;
mod hostile;
mod limits;
mod manual_client;
mod memory;
mod stalled_run;
mod test_server;
mod webtransport;
