//! The memory budget of both servers.

use std::sync::Arc;

use crate::cli::values::{ByteSize, OrOff};
use crate::io::memory;
use crate::memory_budget::{DEFAULT_MEMORY_BUDGET, MemoryBudget};

/// The option of the memory budget.
#[derive(Debug, clap::Args)]
pub struct MemoryArgs {
    /// Maximum memory for the data of all clients: a size, or off
    ///
    /// One address (IPv6: /64) may hold at most as much as is free. Its further data is refused, and if memory becomes scarce, its
    /// connections are closed. The process needs up to 64 MiB more.
    #[arg(long, env = "MEMORY_BUDGET", value_name = "SIZE", default_value_t = OrOff(Some(ByteSize(DEFAULT_MEMORY_BUDGET))), help_heading = "Memory")]
    memory_budget: OrOff<ByteSize>,
}

impl MemoryArgs {
    /// Creates the budget.
    pub fn budget(&self) -> Arc<MemoryBudget> {
        memory::logged_budget(self.memory_budget.0.map(|ByteSize(size)| size))
    }
}
