//! Option groups: those that several subcommands share, and the large ones of the servers.

pub mod broadcast;
pub mod credentials;
pub mod impairment;
pub mod registration;
pub mod signaling_limits;
