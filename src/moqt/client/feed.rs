//! Texts that are given while a run goes on: what a person types.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Texts that wait to be sent, and no more than this many. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Feed(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    texts: VecDeque<Bytes>,
    ended: bool,
}

/// What there is to send.
#[derive(Debug)]
pub(super) enum Pulled {
    /// This.
    Text(Bytes),
    /// Nothing yet.
    Nothing,
    /// Nothing more.
    End,
}

impl Feed {
    /// Texts that wait at most.
    pub const MOST: usize = 1_024;

    /// Gives a text to send, unless too many wait: then false, and it may be given again later.
    pub fn push(&self, text: Bytes) -> bool {
        let mut waiting = self.lock();
        let has_room = waiting.texts.len() < Self::MOST;
        if has_room {
            waiting.texts.push_back(text);
        }
        has_room
    }

    /// There will be no more.
    pub fn end(&self) {
        self.lock().ended = true;
    }

    pub(super) fn pull(&self) -> Pulled {
        let mut waiting = self.lock();
        match waiting.texts.pop_front() {
            Some(text) => Pulled::Text(text),
            None if waiting.ended => Pulled::End,
            None => Pulled::Nothing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same texts, not equal ones.
impl PartialEq for Feed {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Feed {}
