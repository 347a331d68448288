//! Failed WebSocket and MOQT connections and encrypted links, and messages that are missing although a transport loses nothing.

use super::close_codes::{ClosePhase, diagnose_close};
use super::found::{Found, diagnose};
use crate::report::connection_figures::{ConnectionFailure, MoqtFigures};
use crate::report::figures::StreamFigures;
use crate::report::model::Report;
use crate::report::quantities::format_count;
use jamjam_moqt::error_code;
use jamjam_signaling::{Dialect, ProbeMethod};

/// After pauses of this host with this total length, in milliseconds, the server may have closed an idle MOQT connection.
const IDLE_PAUSE_MS: f64 = 5_000.0;

pub(super) fn websocket(found: &mut Found, report: &Report) {
    let Some(websocket) = &report.websocket else { return };
    let (stream, dialect) = (report.evaluated(), websocket.dialect);
    let (sent, lost) = stream.map_or((0, 0), |stream| (stream.sent, stream.lost));
    let has_replies = stream.is_some_and(StreamFigures::has_replies);
    let is_complete = websocket.connection_failure.is_none() && report.head.interrupted.is_none();
    let unmatched = stream.map_or(0, |stream| stream.unmatched);
    let received = if report.stray + unmatched > 0 { "other messages arrived" } else { "no message arrived" };
    let has_request_ids = websocket.rooms.is_some() || dialect.facts().probe_method != ProbeMethod::Order;
    let order = if has_request_ids {
        ""
    } else {
        ". Replies of this dialect carry no request ID. Therefore, a missing or extra reply makes all later round-trip times wrong"
    };
    diagnose! { found:
        Error "connection_failure" if (let Some(failure) = &websocket.connection_failure) =>
            "{}{}", failure.message, websocket_advice(dialect, failure, stream);
        Warning "server_error" if (let Some(message) = &websocket.server_error) => "the first error that the server reported: {message}";
        Warning "replies_missing" if (has_replies && lost > 0) =>
            "TCP loses no data, so missing replies have another cause. The server did not answer {} in time, or the connection ended first{order}",
            format_count(lost, &format!("{} message", websocket.request));
        Warning "replies_missing" if (has_replies && lost == 0 && !has_request_ids && unmatched > 0) =>
            "received more replies than requests{order}";
        Error "no_replies" if (sent > 0 && !has_replies && is_complete) =>
            "the server accepts the connection but does not answer {} with {} ({received}). Check that the server speaks {}, or give another \
             --dialect", websocket.request, websocket.response, dialect.name();
    }
}

/// What follows the message of a failure: its cause and a remedy.
#[rustfmt::skip]
fn websocket_advice(dialect: Dialect, failure: &ConnectionFailure, stream: Option<&StreamFigures>) -> String {
    let phase = match stream {
        Some(stream) if stream.has_replies() => ClosePhase::AfterReplies,
        Some(stream) if stream.sent > 0 => ClosePhase::BeforeReplies,
        _ => ClosePhase::BeforeRequests,
    };
    let code = failure.close_code.and_then(|code| u16::try_from(code).ok());
    let advice = match failure.kind {
        // The message already contains them.
        "unreachable" => return String::new(),
        "rejected" if dialect == Dialect::ControlSurface => "give --room with the code of a room that exists and is not full",
        "rejected" => "check --dialect and the room",
        "closed" => diagnose_close(dialect, code, &failure.close_reason, phase),
        _ => "the server or a proxy violated the WebSocket protocol, or the network failed. Check the server's log",
    };
    format!(": {advice}")
}

pub(super) fn link(found: &mut Found, report: &Report) {
    let Some(link) = &report.link else { return };
    let has_settled = link.connection_failure.is_none();
    let dropped = link.dropped_not_opened + link.dropped_no_keys + link.dropped_plain + link.dropped_key_exchange;
    diagnose! { found:
        Error "connection_failure" if (let Some(failure) = &link.connection_failure) => "{}", failure.message;
        Warning "link_plain" if (has_settled && !link.encrypted && report.head.interrupted.is_none()) =>
            "the link was not encrypted, because the server made it plain (`echo-server --link plain` does)";
        Warning "link_dropped" if (has_settled && dropped > 0) =>
            "{} of the server did not belong to the link. The server has lost the keys, the address of this host has changed, another program sends \
             from the server's address, or a device on the path modifies packets", format_count(dropped, "packet");
        Warning "link_replayed" if (has_settled && link.dropped_replayed > 0) =>
            "{} of the server arrived more than once, or later than 128 newer packets", format_count(link.dropped_replayed, "packet");
    }
}

pub(super) fn moqt(found: &mut Found, report: &Report) {
    let (Some(moqt), stream) = (&report.moqt, report.evaluated()) else { return };
    let (sent, lost) = stream.map_or((0, 0), |stream| (stream.sent, stream.lost));
    let has_replies = stream.is_some_and(StreamFigures::has_replies);
    let is_paused = report.host_timing.as_ref().is_some_and(|host| host.paused_ms >= IDLE_PAUSE_MS);
    let is_complete = moqt.connection_failure.is_none() && report.head.interrupted.is_none();
    let is_other = stream.is_some_and(|stream| stream.unmatched > 0);
    let received = if is_other { "other frames arrived" } else { "no frame arrived" };
    let ended = if moqt.connection_failure.is_some() { ", or the connection ended first" } else { "" };
    let rejected = if moqt.groups_lost > 0 {
        ". A gomoqt server must first register its subscription to the client's track. The server rejects groups that arrive earlier"
    } else {
        ""
    };
    diagnose! { found:
        Error "connection_failure" if (let Some(failure) = &moqt.connection_failure) =>
            "{}{}", failure.message, moqt_advice(failure, is_paused);
        Warning "replies_missing" if (has_replies && lost > 0) =>
            "QUIC loses no data, so missing frames have another cause. The server did not return {} in time{ended}. If a client reads too slowly, a \
             jamjam-dev server drops the oldest groups. If --delay makes a jamjam-dev server store too much data, the server drops the newest \
             groups{rejected}", missing_frames(moqt);
        // Both sides subscribed, but none of the sent frames returns.
        Error "no_replies" if (sent > 0 && !has_replies && is_complete) =>
            "both subscriptions to {} succeeded, but the server does not return this client's frames ({received}). Check the server's log. If the \
             server delays the echo, give a longer --timeout", moqt.track;
        Warning "groups_dropped" if (moqt.groups_dropped > 0) =>
            "{} could not be sent completely because the server or the path was too slow. Give a longer --interval or a smaller --size",
            format_count(moqt.groups_dropped, "group");
        Warning "groups_dropped" if (moqt.groups_dropped == 0 && moqt.groups_stopped > 0) =>
            "the server sent STOP_SENDING for {} before all group data was sent", format_count(moqt.groups_stopped, "group");
        Note "path_retried" if (let Some(path) = &moqt.retried_path) =>
            "the server did not respond to the path `/{path}` within 2 s. The client then tried the path without the leading slash, `{path}`. To \
             avoid this delay, give the path that the server expects";
    }
}

/// What follows the message of a failure: a cause or a remedy. `is_paused`: whether this host paused for [`IDLE_PAUSE_MS`].
#[rustfmt::skip]
fn moqt_advice(failure: &ConnectionFailure, is_paused: bool) -> String {
    let advice = match (failure.kind, failure.close_code) {
        // The message already contains it.
        ("unreachable", _) => return String::new(),
        ("rejected", _) => "check the URL and its path. Check that the server supports a MOQT version that this client offers. Without \
            --moqt-version, it offers all versions in docs/moqt.md",
        ("not_ready", _) => "the server speaks this MOQT version but does not echo this track. Check the URL. With gomoqt-2025-02, check that the \
            server subscribes to the prefix of the track",
        ("closed", Some(error_code::NO_ERROR)) => "the server is shutting down or has ended the session. Try again",
        ("closed", Some(error_code::INTERNAL_ERROR)) if is_paused => "this host paused, and the idle connection ended",
        ("closed", Some(error_code::INTERNAL_ERROR)) =>
            "the server failed, or this client read too slowly. Check the server's log or give a longer --interval",
        ("closed", Some(error_code::PROTOCOL_VIOLATION | error_code::UNSUPPORTED_VERSION)) => "the server speaks another version of MOQT",
        ("closed", Some(error_code::SETUP_FAILED)) => "check the path in the URL",
        ("closed", _) => "the server or a device on the path closed the connection. Check the server's log",
        _ => "the server or a device on the path violated the protocol, or the network failed",
    };
    format!(": {advice}")
}

fn missing_frames(moqt: &MoqtFigures) -> String {
    let (groups, frames) = (format_count(moqt.groups_lost, "group"), format_count(moqt.frames_missing, "frame"));
    match (moqt.groups_lost, moqt.frames_missing) {
        (0, _) => format!("{frames} in partially returned groups"),
        (_, 0) => groups,
        _ => format!("{groups} and {frames} in other groups"),
    }
}
