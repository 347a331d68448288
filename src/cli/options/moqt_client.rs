//! Options of MOQT clients.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::moqt::{MoqtVersion, Transport};

/// Help heading of the options for MOQT clients.
pub const HEADING_MOQT: &str = "MOQT (with --to moqt:// or https://, or --embedded --moqt)";

impl ValueEnum for MoqtVersion {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let rules = self.rules();
        Some(PossibleValue::new(rules.name).help(rules.description))
    }
}

/// Options for MOQT clients.
#[derive(Clone, Debug, clap::Args)]
pub struct MoqtClientArgs {
    /// Embed a MOQT echo server (requires --embedded)
    ///
    /// The server uses raw QUIC, or WebTransport with --moqt=webtransport.
    #[arg(long, value_name = "TRANSPORT", value_enum, num_args = 0..=1, default_missing_value = "quic", help_heading = HEADING_MOQT)]
    pub moqt: Option<Transport>,

    /// MOQT version to offer [default: all]
    ///
    /// If all versions are offered, the server selects one.
    #[arg(long, hide_short_help = true, value_name = "VERSION", value_enum, help_heading = HEADING_MOQT)]
    moqt_version: Option<MoqtVersion>,
}

impl MoqtClientArgs {
    /// The offered versions in order of preference.
    pub fn offered_versions(&self) -> Vec<MoqtVersion> {
        self.moqt_version.map_or_else(|| MoqtVersion::ALL.to_vec(), |version| vec![version])
    }
}
