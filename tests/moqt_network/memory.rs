//! The memory that this process has allocated and not freed.

use std::alloc::System;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocated bytes.
pub(crate) fn now() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// The growth of the allocated memory in bytes since an earlier call of [`now`]. `earlier` is the result of that call.
pub(crate) fn since(earlier: isize) -> isize {
    now() - earlier
}

/// Waits until less than `limit` bytes are allocated since `earlier`, a result of [`now`], and returns the growth, after a minute in any
/// case. On a busy machine, both ends may release buffers late; leaked memory is never released.
pub(crate) async fn settle_below(earlier: isize, limit: isize) -> isize {
    let began = Instant::now();
    while since(earlier) >= limit && began.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    since(earlier)
}
