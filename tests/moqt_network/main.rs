//! MOQT over real loopback sockets. The tests run our client and server over both transports, and manual peers that misbehave.

mod echo;
mod flooding;
mod hostile;
mod limits;
mod manual_client;
mod memory;
mod ordered_exchange;
mod stalled_run;
mod test_server;
mod webtransport;
