//! Numbers from facts: what was sent and heard becomes counts, percentiles and jitter, in fixed memory.
//!
//! Nothing here allocates per sample, so a run may last for ever. Every number is defined in `docs/measuring.md`;
//! this room computes them and judges nothing.

mod bars;
mod bursts;
mod clock_jumps;
mod count;
mod drift;
mod histogram;
mod ipdv;
mod jitter;
mod machine;
mod pacing;
mod reordering;
mod stream;

pub use bars::Bar;
pub use bursts::{BURST_LENGTHS, Bursts};
pub use clock_jumps::{ClockJumps, ClockReading};
pub use count::{Count, Kind};
pub use drift::{DRIFT_TAKES, Drift, DriftEstimate};
pub use histogram::Histogram;
pub use ipdv::Ipdv;
pub use jitter::Jitter;
pub use machine::Machine;
pub use pacing::{PACING_EDGE, Pacing};
pub use reordering::{Overtaken, Reordering};
pub use stream::Stream;
