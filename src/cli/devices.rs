//! `jamjam-dev devices`: lists the sound devices.

use anyhow::Context;

use super::output::{Failure, HEADING_REPORT, print};
use crate::document::json;
use crate::io::sound::list::device_text;
use crate::io::sound::{NO_DEVICES_HINT, list_devices};

/// List the sound devices for --mic and --play
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the devices as JSON
    #[arg(long, help_heading = HEADING_REPORT)]
    json: bool,
}

impl Args {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let devices = list_devices().context("cannot list devices")?;
        let text = || device_text(&devices, NO_DEVICES_HINT);
        print(if self.json { json::list("devices", &devices) } else { text() }.trim_end())?;
        Ok(0)
    }
}
