//! `--ask-server`: whether a client asks the server what has reached it.

use crate::io::entropy;

const HEADING_TARGET: &str = "Target";

/// What to ask the server.
#[derive(Debug, clap::Args)]
pub struct AskArgs {
    /// Ask the server what reached it and from which address it hears us, so that loss is told by its direction (echo-server tells both, any STUN server the address)
    #[arg(long, help_heading = HEADING_TARGET)]
    ask_server: bool,
}

impl AskArgs {
    /// Whether the server is to be asked.
    pub fn is_asked(&self) -> bool {
        self.ask_server
    }

    /// Random bits for the transactions if the server is to be asked.
    pub fn random(&self) -> Option<u128> {
        self.ask_server.then(|| {
            let [high, low] = entropy::words();
            u128::from(high) << 64 | u128::from(low)
        })
    }
}
