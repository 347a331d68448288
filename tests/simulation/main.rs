//! Seeded simulations, compared with reference counts. They keep both cores busy and share no program with tests on sockets.

mod chance;
mod client_and_echo;
mod impaired_echo;
mod link;
mod log;
mod naive;
mod net;
mod outlet;
mod play;
mod signaling;
