//! Statistics of packets and clocks: counters, percentiles, loss, jitter, delay variation, pacing, drift and their course over time, in bounded memory.
//!
//! Recording a sample allocates memory only when the buckets of a histogram grow, for the history of a new interval, and for a stall. All
//! of these are limited, so that a run may last forever. `docs/measuring.md` defines every number. This module applies no limits to them.

mod arrivals;
mod clock;
mod delay;
mod histogram;
mod history;
mod loss;
pub mod metrics;
mod sequences;
mod stalls;
mod stream_stats;

pub use arrivals::Arrivals;
pub use clock::{ClockJumps, ClockReading, DriftEstimate, DriftEstimator, MIN_DRIFT_SECONDS};
pub use delay::{AddressChange, HostTiming, Ipdv, Jitter, PacingStats};
pub use histogram::{Histogram, HistogramBar, LogHistogram};
pub use history::{History, Interval, MAX_INTERVALS};
pub use loss::{BURST_LENGTH_BUCKETS, LossBursts, Outage, ReorderedPacket, Reordering};
pub use metrics::{Counter, MetricKind};
pub use sequences::{SequenceArrival, SequenceTracker};
pub use stalls::Stalls;
pub use stream_stats::{FinalOutcome, GroupOutcomes, StreamStats};
