//! The state of the server as the console's page reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::io::process::{self, Resources};
use crate::io::rooms::switchboard::Switchboard;
use crate::rooms::{Counts, Look, Wanted};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    version: &'static str,
    /// Another one is another run of the program, whose notes are numbered from the beginning.
    run: &'a str,
    /// Milliseconds since the start.
    uptime_ms: u64,
    /// Milliseconds since 1970.
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Resources>,
    /// Whether content of protected rooms is shown.
    content: bool,
    /// By dialect, each by the names that `/metrics` has too.
    counts: Map<String, Value>,
    #[serde(flatten)]
    look: Look,
}

/// The state, in JSON.
pub(super) fn text(switchboard: &Switchboard, run: &str, wanted: &Wanted) -> String {
    let (look, census) = switchboard.look(wanted);
    let state = State {
        version: env!("CARGO_PKG_VERSION"),
        run,
        uptime_ms: switchboard.uptime().as_millis() as u64,
        time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        resources: process::resources(),
        content: wanted.content,
        counts: census.into_iter().map(|(dialect, counts)| (dialect.to_owned(), named(&counts))).collect(),
        look,
    };
    // It is made of strings, numbers and lists, which JSON has.
    serde_json::to_string(&state).unwrap_or_default()
}

fn named(counts: &Counts) -> Value {
    Counts::described().map(|(name, _, _, of)| (name.to_owned(), of(counts).into())).collect::<Map<_, _>>().into()
}
