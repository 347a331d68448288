//! Seeded simulations. Their results are compared with an independent computation of the expected results.

mod client_and_echo;
mod impaired_echo;
mod link;
mod log;
mod net;
mod participants;
mod reference_counts;
pub(crate) mod rng;
mod signaling;
mod simulated_socket;
