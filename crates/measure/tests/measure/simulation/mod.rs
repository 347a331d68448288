//! Seeded simulations of clients and echo servers. Their results are compared with an independent computation.

mod client_and_echo;
mod link;
mod log;
mod net;
mod node_group;
mod participants;
mod pauses;
mod reference_counts;
mod simulated_socket;
