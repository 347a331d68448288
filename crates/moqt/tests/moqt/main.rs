//! Tests of MOQT messages, sessions, the echo and the client, without sockets.

mod echo;
mod lite;
mod messages;
mod session;
