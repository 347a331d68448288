//! Whose TLS certificates a client believes.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;

use super::Failure;
use crate::io::tls::client::Trust;

const HEADING_TLS: &str = "TLS";

/// Options of every client that may speak TLS.
#[derive(Clone, Debug, clap::Args)]
pub struct TrustArgs {
    /// Believe certificates signed by one of this PEM file too, beside those of the system's authorities
    #[arg(long, value_name = "FILE", help_heading = HEADING_TLS)]
    ca: Option<PathBuf>,

    /// Believe every certificate. For tests: whoever is on the way can read and change what is said
    #[arg(long, conflicts_with = "ca", help_heading = HEADING_TLS)]
    insecure: bool,
}

impl TrustArgs {
    /// Whether every certificate is believed.
    pub fn is_insecure(&self) -> bool {
        self.insecure
    }

    /// The option that is given, if one is.
    pub fn given(&self) -> Option<&'static str> {
        let ca = self.ca.is_some().then_some("--ca");
        ca.or(self.insecure.then_some("--insecure"))
    }

    /// What connections are made with.
    pub fn config(&self) -> Result<Arc<ClientConfig>, Failure> {
        let trust = Trust { ca: self.ca.clone(), anybody: self.insecure };
        trust.config().map_err(Failure::unusable)
    }
}
