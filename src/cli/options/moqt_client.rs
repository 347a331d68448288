//! Options of MOQT clients.

use crate::cli::values::{moqt_version_parser, transport_parser};
use crate::moqt::{MoqtVersion, Transport};

pub(crate) const HEADING_MOQT: &str = "MOQT (moqt://, https://, or --embedded --moqt)";

#[derive(Clone, Copy, Default, clap::Args)]
pub(crate) struct MoqtClientArgs {
    /// Embed a MOQT echo server (requires --embedded)
    ///
    /// The server uses raw QUIC, or WebTransport with --moqt=webtransport.
    #[arg(long, hide_short_help = true, requires = "embedded", value_name = "TRANSPORT", value_parser = transport_parser(), num_args = 0..=1, default_missing_value = "quic", help_heading = HEADING_MOQT)]
    pub moqt: Option<Transport>,

    /// MOQT version to offer [default: all]
    ///
    /// If all versions are offered, the server selects one.
    #[arg(long, hide_short_help = true, value_name = "VERSION", value_parser = moqt_version_parser(), help_heading = HEADING_MOQT)]
    moqt_version: Option<MoqtVersion>,
}

impl MoqtClientArgs {
    /// The versions to offer, at least one, in order of preference.
    pub(crate) fn offered_versions(self) -> Vec<MoqtVersion> {
        self.moqt_version.map_or_else(|| MoqtVersion::ALL.to_vec(), |only| vec![only])
    }
}
