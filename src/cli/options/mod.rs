//! Option groups that several subcommands share, and the large option groups of the servers.

pub mod broadcast;
pub mod credentials;
pub mod impairment;
pub mod registration;
pub mod signaling_limits;
