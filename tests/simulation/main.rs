//! Seeded simulations, compared with reference counts. They keep both cores busy and share no program with tests on sockets.

mod chance;
mod client_and_echo;
mod impaired_echo;
mod link;
mod log;
mod net;
mod participants;
mod reference_counts;
mod signaling;
mod simulated_socket;
