//! Seeded simulations, compared with reference counts. They use all cores and share no program with tests on sockets.

mod client_and_echo;
mod impaired_echo;
mod link;
mod log;
mod net;
mod participants;
mod reference_counts;
mod rng;
mod signaling;
mod simulated_socket;
