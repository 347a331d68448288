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
    /// New data is refused if its address (IPv6: /64) would then hold more than remains free. If memory becomes scarce, connections of the
    /// largest address are closed. Set the memory limit of the container or unit to this size plus 192 MiB.
    #[arg(long, env = "MEMORY_BUDGET", value_name = "SIZE", default_value_t = OrOff(Some(ByteSize(DEFAULT_MEMORY_BUDGET))), help_heading = "Memory")]
    memory_budget: OrOff<ByteSize>,
}

impl MemoryArgs {
    /// Creates the budget.
    pub fn budget(&self) -> Arc<MemoryBudget> {
        memory::logged_budget(self.memory_budget.0.map(|ByteSize(size)| size))
    }
}
