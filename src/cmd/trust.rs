//! Whose TLS certificates a client believes.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;

use super::Failure;
use crate::io::tls::client::Trust;
use crate::io::tls::fingerprint::Fingerprint;

const HEADING_TLS: &str = "TLS";

/// Options of every client that may speak TLS.
#[derive(Clone, Debug, clap::Args)]
pub struct TrustArgs {
    /// Believe certificates signed by one of this PEM file too, beside those of the system's authorities
    #[arg(long, value_name = "FILE", help_heading = HEADING_TLS)]
    ca: Option<PathBuf>,

    /// Believe the certificate with this SHA-256 and no other, whoever vouches for it: 64 hexadecimal digits
    #[arg(long, value_name = "HASH", conflicts_with = "ca", help_heading = HEADING_TLS)]
    cert_sha256: Option<Fingerprint>,

    /// Believe every certificate. For tests: whoever is on the way can read and change what is said
    #[arg(long, conflicts_with_all = ["ca", "cert_sha256"], help_heading = HEADING_TLS)]
    insecure: bool,
}

impl TrustArgs {
    /// Whether every certificate is believed.
    pub fn is_insecure(&self) -> bool {
        self.insecure
    }

    /// The option that is given, if one is.
    pub fn given(&self) -> Option<&'static str> {
        let given =
            [("--ca", self.ca.is_some()), ("--cert-sha256", self.cert_sha256.is_some()), ("--insecure", self.insecure)];
        given.into_iter().find_map(|(option, given)| given.then_some(option))
    }

    /// Whom to believe.
    pub fn trust(&self) -> Trust {
        Trust { ca: self.ca.clone(), only: self.cert_sha256, anybody: self.insecure }
    }

    /// What connections are made with.
    pub fn config(&self) -> Result<Arc<ClientConfig>, Failure> {
        self.trust().config().map_err(Failure::unusable)
    }
}
