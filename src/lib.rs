//! The house that `jamjam-dev` lives in.
pub mod echo;
pub mod io;
pub mod node;
pub mod time;
pub mod wire;
