//! Client side of a WebSocket connection, without I/O. Decodes the bytes that the caller reads, and encodes the messages that the caller
//! writes. Replies to pings and to the server's close frame.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::io::os;
use crate::io::websocket::frame::{self, FrameDecoder, FrameError, FrameEvent, Sender};
use crate::signaling::CloseCode;

/// Maximum size of a message from a server, in bytes. A list of ten thousand rooms fits into one message.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Size of the read buffer, in bytes.
pub const READ_BUFFER_BYTES: usize = 8 << 10;

/// A received message, or the end of the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A text message.
    Text(Bytes),
    /// A binary message. The content of a binary message is not used.
    Binary,
    /// The server's close frame. No further item follows.
    Close {
        /// `None` if the frame is empty.
        code: Option<CloseCode>,
        /// The reason as sent; may be empty.
        reason: String,
    },
    /// Bytes that violate the protocol or a limit. No further item follows.
    Invalid(FrameError),
}

/// An open connection.
#[derive(Debug, Default)]
pub struct WebSocketClient {
    decoder: FrameDecoder,
    received: VecDeque<Received>,
    /// Whether the last item added to `received` was the end of the connection.
    is_read_closed: bool,
    /// Encoded frames, in the order in which to write them.
    unsent: VecDeque<Bytes>,
    /// The reply to the latest ping. Earlier pings need no reply (RFC 6455, section 5.5.3), so replies cannot accumulate.
    pending_pong: Option<Bytes>,
    is_close_sent: bool,
}

impl WebSocketClient {
    /// Decodes bytes from the server. After the end of the connection, bytes are discarded.
    pub fn on_read(&mut self, bytes: &mut [u8]) {
        if self.is_read_closed {
            return;
        }
        let Self { decoder, received, pending_pong, .. } = self;
        let decoded = decoder.decode(bytes, Sender::Server, MAX_MESSAGE_BYTES, |event| {
            match event {
                FrameEvent::Text(text) => received.push_back(Received::Text(Bytes::copy_from_slice(text.as_bytes()))),
                FrameEvent::Binary => received.push_back(Received::Binary),
                FrameEvent::Ping(payload) => *pending_pong = Some(frame::pong_frame(payload, Some(random_mask()))),
                FrameEvent::Pong | FrameEvent::Fragment => {}
                FrameEvent::Close(code, reason) => {
                    received.push_back(Received::Close { code, reason: reason.to_owned() });
                    return false;
                }
            }
            true
        });
        if let Err(error) = decoded {
            received.push_back(Received::Invalid(error));
        }
        match self.received.back() {
            Some(&Received::Close { code, .. }) => self.end(code),
            Some(&Received::Invalid(error)) => self.end(Some(error.close_code())),
            _ => {}
        }
    }

    fn end(&mut self, code: Option<CloseCode>) {
        self.is_read_closed = true;
        self.decoder = FrameDecoder::default();
        self.send_close(code);
    }

    /// The next message.
    pub fn next_received(&mut self) -> Option<Received> {
        self.received.pop_front()
    }

    /// Queues a text message.
    pub fn send_text(&mut self, text: &str) {
        self.queue(frame::text_frame(text, Some(random_mask())));
    }

    /// Queues a ping.
    pub fn send_ping(&mut self) {
        self.queue(frame::ping_frame(Some(random_mask())));
    }

    /// Queues a close frame, once. Later messages are discarded.
    pub fn send_close(&mut self, code: Option<CloseCode>) {
        self.queue(frame::close_frame(code, "", Some(random_mask())));
        self.is_close_sent = true;
    }

    fn queue(&mut self, frame: Bytes) {
        if !self.is_close_sent {
            self.unsent.push_back(frame);
        }
    }

    /// The next bytes to write; empty if everything was written.
    pub fn unsent(&mut self) -> &[u8] {
        if self.unsent.is_empty()
            && let Some(pong) = self.pending_pong.take()
        {
            self.queue(pong);
        }
        self.unsent.front().map_or(&[], |frame| frame)
    }

    /// Removes `written` bytes of [`Self::unsent`].
    pub fn advance(&mut self, written: usize) {
        if let Some(frame) = self.unsent.front_mut() {
            frame.advance(written);
            if frame.is_empty() {
                self.unsent.pop_front();
            }
        }
    }
}

/// A masking key that other programs cannot predict (section 5.3).
fn random_mask() -> [u8; 4] {
    let [word] = os::random_u64s();
    (word as u32).to_ne_bytes()
}

/// The peer is `tungstenite` as a server.
#[cfg(test)]
mod tests {
    use std::io::{self, Cursor, Read, Write};

    use proptest::prelude::*;
    use tungstenite::protocol::Role;
    use tungstenite::{Message, WebSocket};

    use super::*;

    /// The server end of a stream. Contains the bytes from and to the client.
    #[derive(Default)]
    struct ServerStream {
        from_client: Cursor<Vec<u8>>,
        to_client: Vec<u8>,
    }

    impl Read for ServerStream {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.from_client.read(buffer)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                read => Ok(read),
            }
        }
    }

    impl Write for ServerStream {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.to_client.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Pair {
        client: WebSocketClient,
        server: WebSocket<ServerStream>,
    }

    impl Pair {
        fn new() -> Self {
            let server = WebSocket::from_raw_socket(ServerStream::default(), Role::Server, None);
            Self { client: WebSocketClient::default(), server }
        }

        /// Delivers the client's queued bytes to the server, at most `piece` bytes at a time. Returns the messages that the server reads.
        fn client_to_server(&mut self, piece: usize) -> Vec<Message> {
            let mut bytes = Vec::new();
            while let unsent @ [_, ..] = self.client.unsent() {
                let written = unsent.len().min(piece);
                bytes.extend_from_slice(&unsent[..written]);
                self.client.advance(written);
            }
            self.server.get_mut().from_client = Cursor::new(bytes);
            std::iter::from_fn(|| self.server.read().ok()).collect()
        }

        fn server_to_client(&mut self, piece: usize) -> Vec<Received> {
            self.server.flush().ok();
            for bytes in std::mem::take(&mut self.server.get_mut().to_client).chunks_mut(piece) {
                self.client.on_read(bytes);
            }
            std::iter::from_fn(|| self.client.next_received()).collect()
        }
    }

    #[test]
    fn only_the_latest_ping_is_answered() {
        let mut pair = Pair::new();
        for payload in ["a", "b", "c"] {
            pair.server.send(Message::Ping(payload.into())).unwrap();
        }
        assert_eq!(pair.server_to_client(1), []);
        assert_eq!(pair.client_to_server(100), [Message::Pong("c".into())]);
    }

    #[test]
    fn messages_before_the_end_are_delivered_and_none_after_it() {
        let mut pair = Pair::new();
        pair.server.send(Message::text("last")).unwrap();
        pair.server.get_mut().to_client.extend([0x83, 0, 0x81, 1, b'x']);
        let expected = [Received::Text("last".into()), Received::Invalid(FrameError::Protocol)];
        assert_eq!(pair.server_to_client(100), expected);
        assert!(matches!(&*pair.client_to_server(100), [Message::Close(Some(frame))] if u16::from(frame.code) == 1002));
    }

    #[test]
    fn close_is_answered_once_with_the_same_code() {
        let mut pair = Pair::new();
        let frame = tungstenite::protocol::CloseFrame { code: 4001.into(), reason: "full".into() };
        pair.server.close(Some(frame)).unwrap();
        let close = Received::Close { code: Some(CloseCode(4001)), reason: "full".to_owned() };
        assert_eq!(pair.server_to_client(100), [close]);
        pair.client.send_text("too late");
        pair.client.send_close(None);
        assert!(matches!(&*pair.client_to_server(1), [Message::Close(Some(frame))] if u16::from(frame.code) == 4001));
        assert!(pair.client.unsent().is_empty());
    }

    #[test]
    fn masked_frames_of_a_server_are_rejected() {
        let mut client = WebSocketClient::default();
        client.on_read(&mut frame::text_frame("x", Some([1, 2, 3, 4])).to_vec());
        assert_eq!(client.next_received(), Some(Received::Invalid(FrameError::Protocol)));
    }

    proptest! {
        #[test]
        fn texts_arrive_in_both_directions(
            texts in proptest::collection::vec(prop_oneof!["[a-zäß🔊]{0,40}", "x{120,130}", "y{65530,65540}"], 0..6),
            piece in 1_usize..3_000,
        ) {
            let mut pair = Pair::new();
            for text in &texts {
                pair.client.send_text(text);
                pair.server.send(Message::text(text)).unwrap();
            }
            pair.client.send_ping();
            let received: Vec<Received> = texts.iter().map(|text| Received::Text(text.clone().into())).collect();
            prop_assert_eq!(pair.server_to_client(piece), received);
            let mut sent: Vec<Message> = texts.iter().map(Message::text).collect();
            sent.push(Message::Ping(Vec::new().into()));
            prop_assert_eq!(pair.client_to_server(piece), sent);
        }
    }
}
