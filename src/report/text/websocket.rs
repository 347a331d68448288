//! The connections of a probe over WebSocket: what was spoken, how long they took, and what the server's clock shows.

use super::row;
use crate::report::websocket::WebSocketNumbers;
use crate::report::wording::time;

/// The line below the heading.
pub(super) fn heading(websocket: &WebSocketNumbers) -> String {
    let WebSocketNumbers { dialect, question, answer, .. } = websocket;
    let dialect = dialect.name();
    if question == answer {
        return format!("{dialect} over WebSocket: what one member says another hears\n");
    }
    format!("{dialect} over WebSocket: {question}, answered by {answer}\n")
}

/// The rows beside the table.
pub(super) fn rows(text: &mut String, websocket: &WebSocketNumbers) {
    for one in &websocket.connections {
        let parts = [
            ("name", Some(one.name_ms)),
            ("TCP", Some(one.tcp_ms)),
            ("TLS", one.tls_ms),
            ("upgrade", Some(one.upgrade_ms)),
            ("join", one.join_ms),
        ];
        let parts: Vec<String> =
            parts.iter().filter_map(|(name, ms)| Some(format!("{name} {}", time((*ms)? * 1e3)))).collect();
        row(text, "connecting", &parts.join(", "));
    }
    if let (Some(offset), Some(error)) = (websocket.clock_offset_us, websocket.clock_offset_error_us) {
        let ahead = if offset < 0.0 { "behind" } else { "ahead of" };
        let (offset, error) = (time(offset.abs()), time(error));
        row(text, "server's clock", &format!("{offset} {ahead} ours, ± {error} (which way took longer is not known)"));
    }
}
