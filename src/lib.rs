//! The house that `jamjam-dev` lives in.
pub mod audio;
pub mod node;
pub mod time;
pub mod wire;
