//! MOQT over real sockets, on loopback: our client and server over both transports, and strangers who play the other end badly.

mod dialogue;
mod echo;
mod echoing;
mod flooding;
mod hostile;
mod limits;
mod memory;
mod overdue;
mod stranger;
mod webtransport;
