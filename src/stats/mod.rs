//! Numbers from facts: what was sent and heard becomes counts, percentiles and jitter, in fixed memory.
//!
//! Nothing here allocates per sample, so a run may last for ever. Every number is defined in `docs/measuring.md`;
//! this room computes them and judges nothing.

mod bars;
mod count;
mod histogram;
mod jitter;
mod pacing;
mod reordering;
mod stream;

pub use bars::Bar;
pub use count::Count;
pub use histogram::Histogram;
pub use jitter::Jitter;
pub use pacing::{PACING_EDGE, Pacing};
pub use reordering::Reordering;
pub use stream::Stream;
