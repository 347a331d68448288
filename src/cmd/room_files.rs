//! Broadcast rooms that are declared in files: `NAME.toml` is room NAME.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use super::Failure;
use crate::rooms::broadcast::room_name;
use crate::rooms::handlers::Declared;
use crate::units::{self, Unit};

/// What a file may say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoomFile {
    requires_auth: Option<bool>,
    broadcast_delay: Option<toml::Spanned<String>>,
    welcome: Option<serde_json::Map<String, serde_json::Value>>,
    max_clients: Option<usize>,
    stamp: Option<bool>,
}

/// The rooms that are declared in `folder`, by their names.
pub fn read(folder: &Path) -> Result<Vec<(String, Declared)>, Failure> {
    let cannot_read = || format!("cannot read the rooms in {}", folder.display());
    let entries = fs::read_dir(folder).with_context(cannot_read).map_err(Failure::unusable)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<PathBuf>, _>>();
    let mut paths = paths.with_context(cannot_read).map_err(Failure::unusable)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths.into_iter().map(|path| declared(&path).map_err(Failure::unusable)).collect()
}

fn declared(path: &Path) -> anyhow::Result<(String, Declared)> {
    let cannot = || format!("cannot use {} as a room", path.display());
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = room_name(&stem.replace('%', "%25"))
        .map_err(|_| anyhow::anyhow!("no room can be called {stem:?}: the name is reserved, too long or not text"));
    let name = name.with_context(cannot)?;
    let text = fs::read_to_string(path).with_context(cannot)?;
    let file: RoomFile = toml::from_str(&text).with_context(cannot)?;
    let usual = Declared::default();
    let broadcast_delay = file.broadcast_delay.map(|delay| {
        let line = text.get(..delay.span().start).unwrap_or_default().lines().count().max(1);
        units::parse_duration(delay.get_ref(), Unit::Seconds).with_context(|| format!("line {line}: broadcast_delay"))
    });
    let declared = Declared {
        requires_auth: file.requires_auth.unwrap_or(usual.requires_auth),
        broadcast_delay: broadcast_delay.transpose().with_context(cannot)?.unwrap_or(usual.broadcast_delay),
        welcome: file.welcome.unwrap_or_default(),
        max_clients: file.max_clients,
        stamp: file.stamp.unwrap_or(usual.stamp),
    };
    Ok((name, declared))
}
