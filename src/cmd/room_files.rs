//! Broadcast rooms that are declared in files: `NAME.toml` is room NAME.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use super::Failure;
use crate::rooms::broadcast::{LONGEST_DELAY, can_be_room};
use crate::rooms::handlers::Declared;
use crate::units::{self, Unit};

/// What a file may say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoomFile {
    requires_auth: Option<bool>,
    broadcast_delay: Option<toml::Spanned<String>>,
    welcome: Option<toml::Table>,
    max_clients: Option<toml::Spanned<usize>>,
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
    if !can_be_room(stem) {
        let why = anyhow::anyhow!("no room can be called {stem:?}: the name is reserved, too long or not text");
        return Err(why.context(cannot()));
    }
    let text = fs::read_to_string(path).with_context(cannot)?;
    let file: RoomFile = toml::from_str(&text).with_context(cannot)?;
    let usual = Declared::default();
    let line = |span: Range<usize>| text.get(..span.start).unwrap_or_default().lines().count().max(1);
    let broadcast_delay = file.broadcast_delay.map(|delay| {
        let parsed = units::parse_duration(delay.get_ref(), Unit::Seconds).map_err(anyhow::Error::from);
        let short = parsed.and_then(|parsed| match parsed {
            parsed if parsed > LONGEST_DELAY => anyhow::bail!("nothing waits for more than 1h"),
            parsed => Ok(parsed),
        });
        short.with_context(|| format!("line {}: broadcast_delay", line(delay.span())))
    });
    let max_clients = file.max_clients.map(|most| match *most.get_ref() {
        0 => Err(anyhow::anyhow!(
            "line {}: max_clients = 0 lets nobody in; leave it out for no limit",
            line(most.span())
        )),
        number => Ok(number),
    });
    let declared = Declared {
        requires_auth: file.requires_auth.unwrap_or(usual.requires_auth),
        broadcast_delay: broadcast_delay.transpose().with_context(cannot)?.unwrap_or(usual.broadcast_delay),
        welcome: file
            .welcome
            .map(|table| table.into_iter().map(|(key, value)| (key, json(value))).collect())
            .unwrap_or_default(),
        max_clients: max_clients.transpose().with_context(cannot)?,
        stamp: file.stamp.unwrap_or(usual.stamp),
    };
    Ok((stem.to_owned(), declared))
}

/// The same in JSON, which has no times: they are the text that they were.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(is_so) => is_so.into(),
        toml::Value::Array(values) => values.into_iter().map(json).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, json(value))).collect(),
    }
}
