//! The memory that this process has allocated and not freed.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::test_server::until;

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

/// Waits until less than `limit` bytes are allocated since `earlier`, a result of [`now`]. Both ends may release buffers late; leaked memory
/// is never released.
pub(crate) async fn settle_below(earlier: isize, limit: isize) {
    until(|| if since(earlier) < limit { Ok(()) } else { Err(format!("{} bytes more", since(earlier))) }).await;
}
