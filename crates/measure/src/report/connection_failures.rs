//! Warnings about failed WebSocket and MOQT connections, about encrypted links, and about missing replies, with causes and remedies.

use super::connection_figures::{ConnectionFailure, MoqtFigures, WebSocketFigures};
use super::figures::StreamFigures;
use super::model::{Report, Warnings};
use super::quantities::format_count;
use jamjam_moqt::error_code;
use jamjam_signaling::{CloseDiagnosis, ClosePhase, Dialect, ResponseMatching, diagnose};

/// After pauses of this host with this total length, in milliseconds, the server may have closed an idle MOQT connection.
const IDLE_PAUSE_MS: f64 = 5_000.0;

/// Adds the warnings about the WebSocket connections, the most serious first. `stream` is the evaluated stream.
pub(super) fn websocket_warnings(found: &mut Warnings, report: &Report, stream: Option<&StreamFigures>) {
    let Some(websocket) = &report.websocket else { return };
    if let Some(failure) = &websocket.connection_failure {
        found.add("connection_failure", describe_websocket_failure(websocket.dialect, failure, stream));
    }
    if let Some(message) = &websocket.server_error {
        found.add("server_error", format!("the first error that the server reported: {message}"));
    }
    let Some(stream) = stream else { return };
    if stream.has_replies() {
        websocket_replies_missing(found, websocket, stream);
    } else if stream.sent > 0 && websocket.connection_failure.is_none() && report.interrupted.is_none() {
        let WebSocketFigures { dialect, request, response, .. } = websocket;
        let others = report.stray + stream.unmatched;
        let received = if others > 0 { "other messages arrived" } else { "no message arrived" };
        let message = format!(
            "the server accepts the connection but does not answer {request} with {response} ({received}). Check that the server speaks {}, \
             or give another --dialect",
            dialect.name()
        );
        found.add("no_replies", message);
    }
}

/// The failure of a WebSocket connection with its cause and remedy.
fn describe_websocket_failure(dialect: Dialect, failure: &ConnectionFailure, stream: Option<&StreamFigures>) -> String {
    let advice = match failure.kind {
        // The message already contains the cause and the remedy.
        "unreachable" => return failure.message.clone(),
        "rejected" if dialect == Dialect::ControlSurface => {
            "give --room with the code of a room that exists and is not full"
        }
        "rejected" => "check --dialect and the room",
        "closed" => {
            let phase = match stream {
                Some(stream) if stream.has_replies() => ClosePhase::AfterReplies,
                Some(stream) if stream.sent > 0 => ClosePhase::BeforeReplies,
                _ => ClosePhase::BeforeRequests,
            };
            let code = failure.close_code.and_then(|code| u16::try_from(code).ok());
            let CloseDiagnosis { cause, remedy } = diagnose(dialect, code, &failure.close_reason, phase);
            return format!("{}: {cause}. {remedy}", failure.message);
        }
        _ => "the server or a proxy violated the WebSocket protocol, or the network failed. Check the server's log",
    };
    format!("{}: {advice}", failure.message)
}

fn websocket_replies_missing(found: &mut Warnings, websocket: &WebSocketFigures, stream: &StreamFigures) {
    let has_request_ids = websocket.dialect.probe().matching != ResponseMatching::Order;
    if stream.lost == 0 && (has_request_ids || stream.unmatched == 0) {
        return;
    }
    let mut message = match stream.lost {
        0 => "received more replies than requests".to_owned(),
        lost => format!(
            "TCP loses no data, so missing replies have another cause. The server did not answer {} in time, or the connection ended first",
            format_count(lost, &format!("{} message", websocket.request))
        ),
    };
    if !has_request_ids {
        message.push_str(
            ". Replies of this dialect carry no request ID. Therefore, a missing or extra reply makes all later round-trip times wrong",
        );
    }
    found.add("replies_missing", message);
}

/// Adds the warnings about the encrypted link.
pub(super) fn link_warnings(found: &mut Warnings, report: &Report) {
    let Some(link) = &report.link else { return };
    if let Some(failure) = &link.connection_failure {
        return found.add("connection_failure", &failure.message);
    }
    if !link.encrypted && report.interrupted.is_none() {
        let message = "the link was not encrypted, because the server made it plain (`echo-server --link plain` does)";
        found.add("link_plain", message);
    }
    let dropped = link.dropped().iter().map(|(count, _)| count).sum::<u64>() - link.dropped_replayed;
    let message = "{} of the server did not belong to the link. The server has lost the keys, the address of this host has changed, \
                   another program sends from the server's address, or a device on the path modifies packets";
    found.count("link_dropped", dropped, "packet", message);
    let message = "{} of the server arrived more than once, or later than 128 newer packets";
    found.count("link_replayed", link.dropped_replayed, "packet", message);
}

/// Adds the warnings about the MOQT connection, the most serious first. `stream` is the evaluated stream.
pub(super) fn moqt_warnings(found: &mut Warnings, report: &Report, stream: Option<&StreamFigures>) {
    let Some(moqt) = &report.moqt else { return };
    if let Some(failure) = &moqt.connection_failure {
        let is_paused = report.host_timing.as_ref().is_some_and(|host| host.paused_ms >= IDLE_PAUSE_MS);
        let advice = moqt_advice(failure, is_paused).map_or_else(String::new, |advice| format!(": {advice}"));
        found.add("connection_failure", format!("{}{advice}", failure.message));
    }
    let is_complete = moqt.connection_failure.is_none() && report.interrupted.is_none();
    match stream {
        Some(stream) if stream.has_replies() && stream.lost > 0 => moqt_replies_missing(found, moqt),
        // Both sides subscribed, but none of the sent frames returns.
        Some(stream) if stream.sent > 0 && !stream.has_replies() && is_complete => {
            let received = if stream.unmatched > 0 { "other frames arrived" } else { "no frame arrived" };
            let message = format!(
                "both subscriptions to {} succeeded, but the server does not return this client's frames ({received}). Check the server's \
                 log. If the server delays the echo, give a longer --timeout",
                moqt.track
            );
            found.add("no_replies", message);
        }
        _ => {}
    }
    let (incomplete, message) = if moqt.groups_dropped > 0 {
        let message = "{} could not be sent completely because the server or the path was too slow. Give a longer --interval or a smaller --size";
        (moqt.groups_dropped, message)
    } else {
        (moqt.groups_stopped, "the server sent STOP_SENDING for {} before all group data was sent")
    };
    found.count("groups_dropped", incomplete, "group", message);
    if let Some(path) = &moqt.retried_path {
        let message = format!(
            "the server did not respond to the path `/{path}` within 2 s. The client then tried the path without the leading slash, \
             `{path}`. To avoid this delay, give the path that the server expects"
        );
        found.add("path_retried", message);
    }
}

/// Advice on a failed MOQT connection; `None` if the message already contains it. `is_paused`: whether this host paused for [`IDLE_PAUSE_MS`].
fn moqt_advice(failure: &ConnectionFailure, is_paused: bool) -> Option<&'static str> {
    Some(match (failure.kind, failure.close_code) {
        ("unreachable", _) => return None,
        ("rejected", _) => {
            "check the URL and its path. Check that the server supports a MOQT version that this client offers. Without --moqt-version, \
             it offers all versions in docs/moqt.md"
        }
        ("not_ready", _) => {
            "the server speaks this MOQT version but does not echo this track. Check the URL. With gomoqt-2025-02, check that the server \
             subscribes to the prefix of the track"
        }
        ("timed_out", _) => {
            "the report contains the results before the time-out. Try again, and report a bug if the time-out happens again"
        }
        ("closed", Some(error_code::NO_ERROR)) => "the server is shutting down or has ended the session. Try again",
        ("closed", Some(error_code::INTERNAL_ERROR)) if is_paused => "this host paused, and the idle connection ended",
        ("closed", Some(error_code::INTERNAL_ERROR)) => {
            "the server failed, or this client read too slowly. Check the server's log or give a longer --interval"
        }
        ("closed", Some(error_code::PROTOCOL_VIOLATION | error_code::UNSUPPORTED_VERSION)) => {
            "the server speaks another version of MOQT"
        }
        ("closed", Some(error_code::SETUP_FAILED)) => "check the path in the URL",
        ("closed", _) => "the server or a device on the path closed the connection. Check the server's log",
        _ => "the server or a device on the path violated the protocol, or the network failed",
    })
}

fn moqt_replies_missing(found: &mut Warnings, moqt: &MoqtFigures) {
    let groups = format_count(moqt.groups_lost, "group");
    let frames = format_count(moqt.frames_missing, "frame");
    let missing = match (moqt.groups_lost, moqt.frames_missing) {
        (0, _) => format!("{frames} in partially returned groups"),
        (_, 0) => groups,
        _ => format!("{groups} and {frames} in other groups"),
    };
    let ended = if moqt.connection_failure.is_some() { ", or the connection ended first" } else { "" };
    let rejected = if moqt.groups_lost > 0 {
        ". A gomoqt server must first register its subscription to the client's track. The server rejects groups that arrive earlier"
    } else {
        ""
    };
    let message = format!(
        "QUIC loses no data, so missing frames have another cause. The server did not return {missing} in time{ended}. If a client reads \
         too slowly, a jamjam-dev server drops the oldest groups. If --delay makes a jamjam-dev server store too much data, the \
         server drops the newest groups{rejected}"
    );
    found.add("replies_missing", message);
}
