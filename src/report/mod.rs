//! From the facts of a run to what a person, a script or a CI job reads.

pub use crate::flow::run;
