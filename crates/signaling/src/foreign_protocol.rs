//! Recognizes clients of other servers, which would otherwise wait for replies that never come. The result is the reason with which their
//! connections are closed.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The signaling protocol of `PeerServer`.
const PEER_JS: &str = "PeerJS clients are not supported";

/// Engine.IO, the transport of Socket.IO.
const SOCKET_IO: &str = "Socket.IO clients are not supported";

/// The signaling protocol of Yjs documents.
const Y_WEBRTC: &str = "y-webrtc clients are not supported";

/// The fields by which a message of y-webrtc is recognized.
#[derive(Deserialize)]
struct YWebRtcMessage {
    topics: Option<IgnoredAny>,
    topic: Option<IgnoredAny>,
}

/// Recognizes the URL of an upgrade request. `has` returns whether the query has a parameter with this name.
pub(super) fn of_url(path: &str, has: impl Fn(&str) -> bool) -> Option<&'static str> {
    if path.ends_with("/peerjs") && has("key") && has("id") && has("token") {
        Some(PEER_JS)
    } else if has("EIO") && has("transport") {
        Some(SOCKET_IO)
    } else {
        None
    }
}

/// Recognizes the first message of a connection, which has this type. No dialect has these types.
pub(super) fn of_first_message(message_type: &str, text: &str) -> Option<&'static str> {
    match message_type {
        "HEARTBEAT" | "OFFER" | "ANSWER" | "CANDIDATE" => Some(PEER_JS),
        "subscribe" | "unsubscribe" | "publish" => {
            let YWebRtcMessage { topics, topic } = serde_json::from_str(text).ok()?;
            topics.or(topic).map(|_| Y_WEBRTC)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// URLs and messages of `peerjs` 1.5, `socket.io-client` 4 and `y-webrtc` 10.
    #[test]
    fn foreign_protocols_are_recognized_by_url_or_first_message() {
        let of_url =
            |path, query: &str| of_url(path, |name| query.split('&').any(|pair| pair.starts_with(&format!("{name}="))));
        assert_eq!(of_url("/peerjs", "key=peerjs&id=a&token=b&version=1.5.4"), Some(PEER_JS));
        assert_eq!(of_url("/app/peerjs", "key=k&id=a&token=b"), Some(PEER_JS));
        assert_eq!(of_url("/socket.io/", "EIO=4&transport=websocket"), Some(SOCKET_IO));
        for (path, query) in [("/peerjs", "token=b"), ("/", "key=k&id=a&token=b"), ("/radio", "EIO=4"), ("/", "")] {
            assert_eq!(of_url(path, query), None, "{path}?{query}");
        }
        assert_eq!(of_first_message("HEARTBEAT", r#"{"type":"HEARTBEAT"}"#), Some(PEER_JS));
        let subscribe = r#"{"type":"subscribe","topics":["doc"]}"#;
        assert_eq!(of_first_message("subscribe", subscribe), Some(Y_WEBRTC));
        assert_eq!(of_first_message("publish", r#"{"type":"publish","topic":"doc","data":1}"#), Some(Y_WEBRTC));
        for message_type in ["subscribe", "ping", "JOIN", "LEAVE", ""] {
            assert_eq!(
                of_first_message(message_type, &format!(r#"{{"type":"{message_type}"}}"#)),
                None,
                "{message_type}"
            );
        }
    }
}
