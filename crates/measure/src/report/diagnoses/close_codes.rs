//! What a server means that closes a WebSocket, and what to do.

use jamjam_signaling::Dialect;

/// How far a connection got before the server closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosePhase {
    /// The client had sent no request: the server closed the connection after the upgrade or during the join.
    BeforeRequests,
    /// The client had sent requests, but no reply had arrived.
    BeforeReplies,
    /// At least one reply had arrived.
    AfterReplies,
}

/// The likely cause of a close by the server, and a remedy, from its code, its reason and the phase of the connection. `code` is `None` if the
/// server sent none. Of the arms for a code, those with a reason come first.
#[rustfmt::skip]
pub fn diagnose_close(dialect: Dialect, code: Option<u16>, reason: &str, phase: ClosePhase) -> &'static str {
    use ClosePhase::{AfterReplies, BeforeReplies, BeforeRequests};
    let reason = reason.to_lowercase();
    let has = |parts: &str| parts.split('|').any(|part| reason.contains(part));
    // Servers of broadcast rooms may give no reason. Some codes then have another meaning before the client is in its room.
    let has_none = dialect == Dialect::Broadcast && reason.is_empty();
    let (is_joining, is_member) = (has_none && phase == BeforeRequests, has_none && phase != BeforeRequests);
    let Some(code) = code else {
        return match phase {
            AfterReplies => "the server stopped or failed, or a proxy or the network dropped the connection. Check that the server is still running. \
                Check its log and the log of the proxy",
            _ => "the server or a proxy dropped the connection without an answer. Check the path of the URL, --dialect and the server's log",
        };
    };
    match (code, phase) {
        (1000, _) if has("duplicate") => "another connection joined the room with the same userId. Give another userId in the URL, or omit userId",
        (1000, _) if has("room closed") => "the room was closed, or has expired. Open a new room, and give its code with --dialect bbx --room",
        (1000, AfterReplies) => "the server ended the session, because the room was closed or the server is stopping. Check that the room still \
            exists, and try again",
        (1000, _) => "the server ended the session without an answer, so the URL, the room or --dialect is probably wrong. Check the path of the \
            URL, the room and --dialect",
        (1001, _) => "the server is shutting down or restarting. Check that the server is running, and try again, for example with --wait-for 10s",
        // The WebSocket library reports other codes than those of RFC 6455 with this reason.
        (1002, _) if has("protocol violation") => "the server closed with a code that RFC 6455 does not define, such as 1014 (bad gateway), or it \
            received bytes that violate the WebSocket protocol. Check the log of the server, and of a proxy in front of it",
        (1002, _) => "the server received bytes that violate the WebSocket protocol. A proxy may have changed them. Connect without the proxy. If \
            the error remains, check the server's log",
        (1003, _) => "the server does not accept text messages, so it speaks another protocol. Check the URL, and give the dialect of the server \
            with --dialect",
        (1007, _) => "the server cannot decode the messages of this client, so it probably speaks another dialect. Give the dialect of the server \
            with --dialect",
        (1008, _) if has("missing|required param") => "the URL lacks a parameter that the server requires. Check the parameters of the URL: none may \
            be empty. For a WebRTC server, give --dialect webrtc, which adds roomId, userId and userName",
        (1008, _) if has("too long") => "a parameter of the URL is longer than the server accepts. Give a shorter room name, userId or userName",
        (1008, _) if has("wrong code|wrong password") => "this host sent too many wrong room codes or passwords. Give the code or password of an \
            existing room. Wait before the next attempt",
        (1008, _) if has("rate limit|rate exceeded|too many") => "this client sent more messages per second than the server accepts. Give a longer \
            --interval",
        (1008, _) if has("not supported") => "the server takes this client for a client of another protocol. Check the path and the parameters of \
            the URL",
        (1008, _) if has("by the operator") => "the operator of the server disconnected this client or closed the room. Contact the operator of the \
            server",
        (1008, _) if has("auth|token") => "the server requires a login or a token. For a broadcast or WebRTC room, give --dialect and a token \
            (?token=TOKEN)",
        (1008, BeforeRequests) => "the server rejects the connection because of its URL, its parameters or its source address. Check the path and \
            the parameters of the URL, the room and --dialect",
        (1008, BeforeReplies) => "the server rejects the messages of this client, so it probably speaks another dialect. Give the dialect of the \
            server with --dialect. If the dialect is correct, give a longer --interval",
        (1008, _) => "the server accepted earlier messages, so this client probably sent too many messages per second. Give a longer --interval",
        (1009, _) => "a message of this client was longer than the server accepts. Give a shorter room name, or raise the maximum message size of \
            the server",
        (1010, _) => "the server requires a WebSocket extension, although only clients may send this code. Turn off the extension on the server",
        (1011, _) => "the server failed. Check the server's log",
        (1012, _) => "the server is restarting. Try again, for example with --wait-for 10s",
        (1013, _) if has("room is full") => "the room has its maximum number of members. Give another --room, or try again later",
        (1013, _) if has("too many rooms") => "the server has its maximum number of rooms, in total or for this host. Give the --room of an existing \
            room, or try again later",
        (1013, _) if has("too many requests") => "joins from this host have made the server send too many bytes. Try again in a minute, or use fewer \
            clients on this host",
        (1013, _) if has("selected a dialect") => "the server closed its oldest connection without a dialect, because it had too many. Close idle \
            connections of other clients, or raise the server's limit",
        (1013, _) if has("too slowly|slow|memory") => "this client read too slowly, so the server's send queue was full. Give a longer --interval, \
            or probe from a less busy host",
        (1013, BeforeRequests) => "the server or the room is full. Try again later, or give another --room",
        (1013, _) => "the server is overloaded, or this client reads too slowly. Try again later, or give a longer --interval",
        (3000, _) => "the server requires a login. Give the URL or the token that the operator of the server provides",
        (3003, _) => "the server does not permit this client to connect. Contact the operator of the server",
        (3008, _) => "the server received no message that it accepts in time. Give the dialect of the server with --dialect, or a shorter --interval",
        (4000, _) if is_member || has("idle") => "the server closes connections that send no message for some time. Give a shorter --interval",
        (4001, _) if is_joining || has("auth") => "the room requires a token. Give the token in the URL (?token=TOKEN), or sign tokens with \
            --hmac-secret @FILE. Also give --dialect broadcast, --dialect webrtc or the URL of a room",
        (4001, _) if is_member || has("connection age") => "the connection reached the maximum connection age of the server. Probe for a shorter \
            time, or raise MAX_CONN_AGE_MS of the server",
        (4002, _) if is_joining || has("token|auth") => "the server rejects the token: it has expired, is for another room, user or audience, or is \
            signed with another secret. Give a new token (?token=TOKEN) and the room of this token (--room), or the server's secret (--hmac-secret \
            @FILE)",
        (4002, _) if is_member || has("shut") => "the server is shutting down. Check that the server is running, and try again, for example with \
            --wait-for 10s",
        (4003, _) if has("origin") => "the server accepts only connections from certain web pages, and this client sends no Origin header. Allow \
            clients without an Origin header on the server, or probe it from its own host without the proxy",
        (4004, _) if is_joining || has("rejected by room") => "the program of the room rejects this client. Check the room and its token, and \
            contact the operator of the room",
        (4005, _) if is_joining || has("room name") => "the URL contains no valid room name. Give another --room, or a URL with the path /rooms/NAME",
        (4000..=4999, AfterReplies) => "the code is private to this server, which accepted earlier messages. Find the code in the documentation of \
            the server, and check its log",
        (4000..=4999, _) => "the code is private to this server, which rejects this client. Find the code in the documentation of the server. Check \
            the URL and --dialect",
        _ => "the code belongs to a library or framework of the server. Find the code in the documentation of this library, and check the server's \
            log",
    }
}
