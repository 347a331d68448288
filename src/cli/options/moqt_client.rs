//! Options of MOQT clients.

use super::super::values::{moqt_version_parser, transport_parser};
use crate::moqt::{MoqtVersion, Transport};

/// Help heading of the options for MOQT clients.
pub const HEADING_MOQT: &str = "MOQT (with --to moqt:// or https://, or --embedded --moqt)";

/// Options for MOQT clients.
#[derive(Clone, clap::Args)]
pub struct MoqtClientArgs {
    /// Embed a MOQT echo server (requires --embedded)
    ///
    /// The server uses raw QUIC, or WebTransport with --moqt=webtransport.
    #[arg(long, value_name = "TRANSPORT", value_parser = transport_parser(), num_args = 0..=1, default_missing_value = "quic", help_heading = HEADING_MOQT)]
    pub moqt: Option<Transport>,

    /// MOQT version to offer [default: all]
    ///
    /// If all versions are offered, the server selects one.
    #[arg(long, hide_short_help = true, value_name = "VERSION", value_parser = moqt_version_parser(), help_heading = HEADING_MOQT)]
    moqt_version: Option<MoqtVersion>,
}

impl MoqtClientArgs {
    /// The offered versions in order of preference.
    pub fn offered_versions(&self) -> Vec<MoqtVersion> {
        self.moqt_version.map_or_else(|| MoqtVersion::ALL.to_vec(), |version| vec![version])
    }
}
