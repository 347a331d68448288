//! What a client says over WebSocket to find out how long a signaling server takes, and what it takes for the answer.
//!
//! Each dialect is asked what its own clients ask. Nothing here knows of sockets: text goes out, text comes in.

mod asking;
mod dialect;
mod entrance;
mod in_order;
mod marked;
mod stamped;
mod told;

use crate::time::Time;

pub use asking::{Asker, Asking};
pub use dialect::Dialect;
pub use entrance::{Entrance, Refused};
pub use stamped::{ClockOffset, WallClock};

use in_order::InOrder;
use marked::Marked;
use stamped::Stamped;

/// What a message of the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// The answer to the question with this sequence number.
    Answer(u32),
    /// An answer to nothing that was asked.
    Unasked,
    /// Something else.
    Other,
}

/// One conversation: the questions, and how their answers are known.
#[derive(Debug)]
pub struct Dialogue(Form);

#[derive(Debug)]
enum Form {
    InOrder(InOrder),
    Stamped(Stamped),
    Marked(Marked),
}

impl Dialogue {
    /// A conversation in `dialect`. What it says is told from what others say by `nonce`; `wall` is what this machine takes the time
    /// of day to be.
    pub fn new(dialect: Dialect, nonce: u64, wall: WallClock) -> Self {
        Self(match dialect {
            Dialect::Jamjam | Dialect::Webrtc => Form::InOrder(InOrder::new(dialect)),
            Dialect::Bbx => Form::Stamped(Stamped::new(wall)),
            Dialect::Broadcast => Form::Marked(Marked::new(nonce)),
        })
    }

    /// Writes the next question, which carries `sequence` where the dialect has a place for it, in place of `text`.
    pub fn write(&mut self, sequence: u32, now: Time, text: &mut String) {
        text.clear();
        match &mut self.0 {
            Form::InOrder(in_order) => in_order.write(text),
            Form::Stamped(stamped) => stamped.write(now, text),
            Form::Marked(marked) => marked.write(sequence, text),
        }
    }

    /// The question that was written last has left, with this sequence number.
    pub fn left(&mut self, sequence: u32, at: Time) {
        match &mut self.0 {
            Form::InOrder(in_order) => in_order.left(),
            Form::Stamped(stamped) => stamped.left(sequence, at),
            Form::Marked(_) => {}
        }
    }

    /// Whether `text`, which came at `at`, answers a question; for whoever only wants to know that there is an answer.
    pub fn is_answer(&mut self, text: &str, at: Time) -> bool {
        matches!(self.hear(text, at), Heard::Answer(_))
    }

    fn hear(&mut self, text: &str, at: Time) -> Heard {
        match &mut self.0 {
            Form::InOrder(in_order) => in_order.hear(text),
            Form::Stamped(stamped) => stamped.hear(text, at),
            Form::Marked(marked) => marked.hear(text),
        }
    }

    /// What the server's clock shows, where it tells.
    fn clock_offset(&self) -> Option<ClockOffset> {
        match &self.0 {
            Form::Stamped(stamped) => stamped.offset(),
            Form::InOrder(_) | Form::Marked(_) => None,
        }
    }
}
