//! What every server does before it serves: start its log, find the addresses of its host, tell where it listens.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;

use super::Failure;
use super::args::{Colour, LogFormat};
use crate::io::log::{self, Log};
use crate::io::{resolve, whole_file};

/// Starts the log as `--verbose` or `RUST_LOG`, `--log-format` and `--colour` say.
pub fn start_log(verbose: bool, format: LogFormat, colour: Colour) -> Result<Log, Failure> {
    let filter = if verbose { "debug".to_owned() } else { log_filter() };
    log::start(&filter, format.into(), colour.on(&std::io::stderr()))
        .map_err(|error| Failure::usage(format!("RUST_LOG: {error}")))
}

/// What `RUST_LOG` says, or `info`.
fn log_filter() -> String {
    std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty()).unwrap_or_else(|| "info".to_owned())
}

/// All addresses that `--host` and `--port` name.
pub fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(address) = host.parse::<SocketAddr>() {
        let (ip, port) = (address.ip(), address.port());
        return Err(Failure::usage(format!("--host takes no port: write --host {ip} --port {port}")));
    }
    resolve::resolve(host, port).map_err(Failure::unusable)
}

/// The file of `--address-file`, if there is one.
#[derive(Debug)]
pub struct AddressFile<'a>(Option<&'a Path>);

impl<'a> AddressFile<'a> {
    /// Removes what is there: whoever waits for it must not find the address of a server before this one.
    pub fn clear(file: Option<&'a Path>) -> Result<Self, Failure> {
        file.map_or(Ok(()), |file| whole_file::clear(file).with_context(|| cannot_write(file)))
            .map_err(Failure::unusable)?;
        Ok(Self(file))
    }

    /// Writes the address listened on.
    pub fn write(&self, address: SocketAddr) -> Result<(), Failure> {
        let Some(file) = self.0 else { return Ok(()) };
        whole_file::write(file, &format!("{address}\n")).with_context(|| cannot_write(file)).map_err(Failure::unusable)
    }
}

fn cannot_write(file: &Path) -> String {
    format!("cannot write the address to {}", file.display())
}
