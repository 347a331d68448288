//! Statistics, compared with independent computations.

mod bursts_and_reordering;
mod clock_jumps;
mod delay_variation;
mod histogram;
mod history;
mod jitter;
