//! Recognizes clients of other servers, which would otherwise wait for replies that never come.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// A protocol that this server does not support.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignProtocol {
    /// The signaling protocol of `PeerServer`.
    PeerJs,
    /// Engine.IO, the transport of Socket.IO.
    SocketIo,
    /// The signaling protocol of Yjs documents.
    YWebRtc,
}

/// The fields by which a message of y-webrtc is recognized.
#[derive(Deserialize)]
struct YWebRtcMessage {
    topics: Option<IgnoredAny>,
    topic: Option<IgnoredAny>,
}

impl ForeignProtocol {
    /// Recognizes the URL of an upgrade request. `has` returns whether the query has a parameter with this name.
    pub(super) fn of_url(path: &str, has: impl Fn(&str) -> bool) -> Option<Self> {
        if path.ends_with("/peerjs") && has("key") && has("id") && has("token") {
            Some(Self::PeerJs)
        } else if has("EIO") && has("transport") {
            Some(Self::SocketIo)
        } else {
            None
        }
    }

    /// Recognizes the first message of a connection, which has this type. No dialect has these types.
    pub(super) fn of_first_message(message_type: &str, text: &str) -> Option<Self> {
        match message_type {
            "HEARTBEAT" | "OFFER" | "ANSWER" | "CANDIDATE" => Some(Self::PeerJs),
            "subscribe" | "unsubscribe" | "publish" => {
                let YWebRtcMessage { topics, topic } = serde_json::from_str(text).ok()?;
                topics.or(topic).map(|_| Self::YWebRtc)
            }
            _ => None,
        }
    }

    /// The reason with which the connection is closed.
    pub(super) fn close_reason(self) -> &'static str {
        match self {
            Self::PeerJs => "PeerJS clients are not supported",
            Self::SocketIo => "Socket.IO clients are not supported",
            Self::YWebRtc => "y-webrtc clients are not supported",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// URLs and messages of `peerjs` 1.5, `socket.io-client` 4 and `y-webrtc` 10.
    #[test]
    fn foreign_protocols_are_recognized_by_url_or_first_message() {
        let of_url = |path, query: &str| {
            ForeignProtocol::of_url(path, |name| query.split('&').any(|pair| pair.starts_with(&format!("{name}="))))
        };
        assert_eq!(of_url("/peerjs", "key=peerjs&id=a&token=b&version=1.5.4"), Some(ForeignProtocol::PeerJs));
        assert_eq!(of_url("/app/peerjs", "key=k&id=a&token=b"), Some(ForeignProtocol::PeerJs));
        assert_eq!(of_url("/socket.io/", "EIO=4&transport=websocket"), Some(ForeignProtocol::SocketIo));
        for (path, query) in [("/peerjs", "token=b"), ("/", "key=k&id=a&token=b"), ("/radio", "EIO=4"), ("/", "")] {
            assert_eq!(of_url(path, query), None, "{path}?{query}");
        }
        let of_message = ForeignProtocol::of_first_message;
        assert_eq!(of_message("HEARTBEAT", r#"{"type":"HEARTBEAT"}"#), Some(ForeignProtocol::PeerJs));
        let subscribe = r#"{"type":"subscribe","topics":["doc"]}"#;
        assert_eq!(of_message("subscribe", subscribe), Some(ForeignProtocol::YWebRtc));
        assert_eq!(
            of_message("publish", r#"{"type":"publish","topic":"doc","data":1}"#),
            Some(ForeignProtocol::YWebRtc)
        );
        for message_type in ["subscribe", "ping", "JOIN", "LEAVE", ""] {
            assert_eq!(of_message(message_type, &format!(r#"{{"type":"{message_type}"}}"#)), None, "{message_type}");
        }
    }
}
