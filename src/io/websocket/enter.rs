//! From an open WebSocket to the first question: joining, and with `--wait-for` one answer that counts nowhere.

use super::BeginError;
use super::open::pause;
use super::socket::{Heard, Socket};
use super::waiter::Waiter;
use crate::flow::websocket::Lost;
use crate::flow::{Dialogue, Entrance, Refused};
use crate::time::Time;

/// Why nothing can be asked.
pub(super) enum Outside {
    Lost(Lost),
    Begin(BeginError),
}

impl From<Lost> for Outside {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

/// Joins, until `until` at most.
pub(super) fn join(
    socket: &mut Socket,
    mut entrance: Entrance,
    waiter: &mut Waiter,
    until: Time,
) -> Result<(), Outside> {
    if let Some(greeting) = entrance.greeting() {
        socket.say(&greeting)?;
    }
    while !entrance.is_in() {
        match next(socket, waiter, until)? {
            Some((text, _)) => entrance.hear(&text).map_err(|Refused(words)| Lost::Refused(words))?,
            None => return Err(Lost::Refused("it has not said welcome in time".to_owned()).into()),
        }
    }
    Ok(())
}

/// Asks one question where `speaks` is, and waits for its answer where `hears` is (the same, if it is `None`). False: none came.
pub(super) fn knock(
    speaks: &mut Socket,
    mut hears: Option<&mut Socket>,
    mut dialogue: Dialogue,
    waiter: &mut Waiter,
    until: Time,
) -> Result<bool, Outside> {
    let mut text = String::new();
    dialogue.write(0, waiter.now(), &mut text);
    dialogue.left(0, waiter.now());
    speaks.say(&text)?;
    loop {
        let socket = hears.as_deref_mut().unwrap_or(speaks);
        match next(socket, waiter, until)? {
            Some((text, at)) if dialogue.is_answer(&text, at) => return Ok(true),
            Some(_) => {}
            None => return Ok(false),
        }
    }
}

/// The next text, and when it was read. `None`: `until` has come.
fn next(socket: &mut Socket, waiter: &mut Waiter, until: Time) -> Result<Option<(String, Time)>, Outside> {
    loop {
        socket.flush()?;
        match socket.read()? {
            Heard::Text(bytes, at) => return Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), at))),
            Heard::Nothing => match pause(waiter, until) {
                Ok(()) => {}
                Err(BeginError::Connect(_)) => return Ok(None),
                Err(error) => return Err(Outside::Begin(error)),
            },
            // Whoever only gives signs of life is not listened to for ever.
            Heard::Signs if waiter.now() >= until => return Ok(None),
            Heard::Signs => {}
        }
    }
}
