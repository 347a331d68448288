//! Tests of MOQT messages, sessions, the echo and the client, without sockets.

mod echo;
mod faults;
mod lite;
mod messages;
mod session;
