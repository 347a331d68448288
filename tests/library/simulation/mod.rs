//! Seeded simulations, compared with reference counts.

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
