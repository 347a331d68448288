//! `--ask-server`: whether a client asks the server what has reached it.

use std::hash::{BuildHasher, RandomState};

const HEADING_TARGET: &str = "Target";

/// What to ask the server.
#[derive(Debug, clap::Args)]
pub struct AskArgs {
    /// Ask the server what reached it and from which address it hears us, so that loss is told by its direction (echo-server tells both, any STUN server the address)
    #[arg(long, help_heading = HEADING_TARGET)]
    ask_server: bool,
}

impl AskArgs {
    /// Random bits for the transactions if the server is to be asked.
    pub fn random(&self) -> Option<u128> {
        // Each state has keys that the system made up for this process.
        let bits = || u128::from(RandomState::new().hash_one(0));
        self.ask_server.then(|| bits() << 64 | bits())
    }
}
