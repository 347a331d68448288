//! The house that `jamjam-dev` lives in.
pub mod echo;
pub mod flow;
pub mod io;
pub mod node;
pub mod report;
pub mod stats;
pub mod time;
pub mod units;
pub mod wire;
