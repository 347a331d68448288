//! The house that `jamjam-dev` lives in.
pub mod node;
pub mod report;
pub mod stats;
pub mod time;
pub mod units;
pub mod wire;
