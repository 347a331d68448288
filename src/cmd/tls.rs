//! The options of a server's TLS.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::SystemTime;

use clap::builder::OsStringValueParser;

use super::Failure;
use crate::io::tls::identity::Identity;

const HEADING: &str = "TLS";

/// A certificate and its key: both or neither.
#[derive(Debug, clap::Args)]
pub struct TlsArgs {
    /// PEM file with the certificate, then those that vouch for it; with --key: wss:// and https:// instead of ws:// and http://
    #[arg(long, env = "TLS_CERT", value_name = "FILE", value_parser = OsStringValueParser::new(), help_heading = HEADING)]
    cert: Option<OsString>,

    /// PEM file with the certificate's private key, not encrypted
    #[arg(long, env = "TLS_KEY", value_name = "FILE", value_parser = OsStringValueParser::new(), help_heading = HEADING)]
    key: Option<OsString>,
}

impl TlsArgs {
    /// What the two files hold, if they are given.
    pub fn identity(&self) -> Result<Option<Identity>, Failure> {
        match (given(self.cert.as_deref()), given(self.key.as_deref())) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => {
                Identity::read(cert, key, SystemTime::now()).map(Some).map_err(Failure::unusable)
            }
            (Some(_), None) => {
                Err(Failure::usage("--cert (TLS_CERT) needs its private key: give --key FILE (TLS_KEY) too"))
            }
            (None, Some(_)) => {
                Err(Failure::usage("--key (TLS_KEY) needs its certificate: give --cert FILE (TLS_CERT) too"))
            }
        }
    }
}

/// A file's name. Nothing at all, as a compose file makes of a variable it does not know, is none.
fn given(name: Option<&OsStr>) -> Option<&Path> {
    name.filter(|name| !name.is_empty()).map(Path::new)
}
