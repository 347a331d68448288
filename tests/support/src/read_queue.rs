//! Reads the send queue of a connection like its task.

use jamjam_signaling::send_queue::{NextWrite, PendingClose, SendQueue};

/// What a connection receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A text message.
    Text(String),
    /// A ping.
    Ping,
    /// The end of the connection: code and reason of the close frame, or `None` if the connection is dropped.
    End(Option<(u16, String)>),
}

/// Takes everything out of a queue. The address of a frame identifies a message that is in several queues.
///
/// # Panics
///
/// If a frame is neither a text message nor a ping.
pub fn read_queue(queue: &SendQueue) -> Vec<(*const u8, Received)> {
    let mut received = Vec::new();
    loop {
        match queue.next_write(usize::MAX, usize::MAX / 2, std::task::Waker::noop()) {
            NextWrite::Frames { frames, .. } => {
                queue.advance(frames.iter().map(tungstenite::Bytes::len).sum());
                let frames = frames.iter().filter(|frame| !frame.is_empty());
                received.extend(frames.map(|frame| (frame.as_ptr(), decode(frame))));
            }
            NextWrite::Close(PendingClose { code, reason, .. }) => {
                received.push((std::ptr::null(), Received::End(code.map(|code| (code.get(), reason)))));
            }
            NextWrite::Empty => return received,
        }
    }
}

/// Decodes an unmasked frame (RFC 6455, section 5.2).
fn decode(frame: &[u8]) -> Received {
    let (len, text) = match frame {
        [0x89, 0] => return Received::Ping,
        [0x81, 127, rest @ ..] => rest.split_at(8),
        [0x81, 126, rest @ ..] => rest.split_at(2),
        [0x81, rest @ ..] => rest.split_at(1),
        _ => panic!("an unexpected frame: {frame:?}"),
    };
    let len = len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    assert_eq!(len, text.len(), "the length in the header");
    Received::Text(String::from_utf8(text.to_vec()).expect("UTF-8"))
}
