//! MOQT over loopback sockets: our client with our server over raw QUIC and WebTransport, and hand-coded peers that violate the protocol.

mod hostile;
mod limits;
mod manual_client;
mod memory;
mod stalled_run;
mod test_server;
mod webtransport;
