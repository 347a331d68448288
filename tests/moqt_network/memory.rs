//! How much memory this process has taken and not given back.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes, as of now.
pub(crate) fn now() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// Bytes more than at an earlier reading.
pub(crate) fn since(earlier: isize) -> isize {
    now() - earlier
}

/// Bytes of this process that are in memory, whatever the allocator thinks; 0 if the system does not report it as Linux does.
pub(crate) fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse().ok());
    pages.unwrap_or(0_usize) * 4_096
}
