//! `jamjam-dev rooms`: lists the rooms of a signaling server.

use anyhow::Context;

use super::options::credentials::TrustArgs;
use super::options::room_target::{DeviceKeyArgs, device_key, tls_config};
use super::output::{Failure, HEADING_REPORT, print};
use crate::document::json;
use crate::io::signaling::client;
use crate::io::signaling::discovery::parse_signaling_url;
use crate::io::websocket::handshake::WebSocketUrl;
use crate::report::lists::RoomList;
use crate::signaling::client::room_table;

/// List the rooms of a signaling server
#[derive(clap::Args)]
pub(crate) struct Args {
    /// WebSocket or HTTP URL of the signaling server
    #[arg(env = "SIGNALING_URL", hide_env_values = true, value_name = "URL", value_parser = parse_signaling_url)]
    url: WebSocketUrl,

    /// Print the rooms as JSON
    #[arg(long, help_heading = HEADING_REPORT)]
    json: bool,

    #[command(flatten)]
    device: DeviceKeyArgs,

    #[command(flatten)]
    trust: TrustArgs,
}

impl Args {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let url = &self.url;
        let tls = tls_config(url, &self.trust)?;
        let rooms = client::list_rooms(url, &tls, &device_key(self.device.device_key.as_deref())?)
            .with_context(|| format!("cannot list the rooms of {url}"))?;
        let list = || RoomList { rooms: rooms.iter().map(Into::into).collect() };
        print(&if self.json { json::list("rooms", &list()) } else { room_table(&rooms) })?;
        Ok(0)
    }
}
