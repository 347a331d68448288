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

/// Bytes more than at an earlier look.
pub(crate) fn since(earlier: isize) -> isize {
    now() - earlier
}
