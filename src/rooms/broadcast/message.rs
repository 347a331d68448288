//! What becomes of a message: checked, acknowledged or transformed, delayed, relayed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tracing::debug;

use super::envelope::{Source, Told, framed};
use super::{Rooms, Seat};
use crate::rooms::Conn;
use crate::rooms::desk::{Desk, written};
use crate::rooms::due::Due;
use crate::rooms::handler::{Client, Context, Relay};
use crate::rooms::ignored::Ignored;
use crate::rooms::json::{self, Unread};
use crate::rooms::limits::Limits;

/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(3_600);

/// A message that waits for its time, written already.
pub(in crate::rooms) struct Held {
    room: String,
    sender: Option<Conn>,
    frame: String,
    control: Option<String>,
}

impl Held {
    fn bytes(&self) -> usize {
        self.frame.len() + self.control.as_ref().map_or(0, String::len)
    }
}

/// Nobody can say more for now: too much waits for its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyWaiting;

/// What a message was turned into.
pub(super) struct Relayed {
    pub(super) delay: Duration,
    pub(super) frame: String,
}

/// Does what a member's `text` asks.
pub(in crate::rooms) fn on_text(
    desk: &mut Desk<'_>,
    rooms: &mut Rooms,
    limits: &Limits,
    text: &str,
) -> Result<(), Ignored> {
    let number = rooms.space.seat(desk.conn()).ok_or(Ignored::NoRoom)?;
    let room = rooms.space.get(number).ok_or(Ignored::NoRoom)?;
    let own = room.members.iter().find(|member| member.conn == desk.conn()).ok_or(Ignored::NoRoom)?;
    let (Seat { client, control }, name) = (own.data.clone(), room.name().to_owned());
    if control {
        desk.answer(&Told::Error { error: "Control channel is receive-only" });
        return Ok(());
    }
    let settings = &limits.broadcast;
    if text.len() > settings.payload_bytes {
        return Err(Ignored::TooLong(settings.payload_bytes));
    }
    let payload = match json::read(text) {
        Ok(payload) => payload,
        Err(why) => {
            let error = match why {
                Unread::NotJson => "Invalid JSON payload",
                Unread::TooMuch => "Payload is too deep or has too many values",
            };
            desk.answer(&Told::Error { error });
            return Ok(());
        }
    };
    if !payload.is_object() && !payload.is_array() {
        desk.answer(&Told::Error { error: "Payload must be a JSON object" });
        return Ok(());
    }
    let room = rooms.now(&name, desk.now);
    let handler = rooms.handlers.of(&name);
    if let Err(error) = handler.validate_message(&room, &client, &payload) {
        desk.answer(&Told::Error { error: &error });
        return Ok(());
    }
    if let Some(kind) = payload.get("type").and_then(Value::as_str)
        && settings.suppressed.iter().any(|suppressed| suppressed.eq_ignore_ascii_case(kind))
    {
        desk.answer(&Told::Ack { ack_type: kind, received_at: desk.unix_ms() });
        return Ok(());
    }
    let Some(relay) = handler.on_message(&room, &client, payload) else { return Ok(()) };
    if relay_soon(desk, rooms, limits, &name, Some(&client), &relay).is_err() {
        desk.refused();
        desk.answer(&Told::Error { error: "Too many delayed messages are waiting" });
    }
    Ok(())
}

/// Relays a message when its delay is over. Without a sender it was posted over HTTP.
pub(super) fn relay_soon(
    desk: &mut Desk<'_>,
    rooms: &mut Rooms,
    limits: &Limits,
    name: &str,
    sender: Option<&Arc<Client>>,
    relay: &Relay,
) -> Result<Relayed, TooManyWaiting> {
    let settings = &limits.broadcast;
    let room = rooms.now(name, desk.now);
    let context = Context { room, sender: sender.map(Arc::as_ref), payload: relay.payload() };
    let handler = rooms.handlers.of(name);
    let delay = handler.broadcast_delay(&context).min(LONGEST_DELAY);
    let control = handler.control_payload(&context).map(|frame| written(&frame));
    let source = sender.map_or(Source::Http, |client| Source::Member(client.id()));
    let frame = framed(settings.envelope, &room, source, relay);
    let (room, sender) = (name.to_owned(), sender.map(|client| client.conn));
    let held = Held { room, sender, frame: frame.clone(), control };
    if delay.is_zero() {
        relay_now(desk, rooms, held);
    } else {
        if !rooms.waiting.admit(name, held.bytes(), settings.waiting, settings.waiting_bytes) {
            return Err(TooManyWaiting);
        }
        debug!("A message waits for {delay:?}");
        desk.later(desk.now.at + delay, Due::Relay(Box::new(held)));
    }
    Ok(Relayed { delay, frame })
}

/// The time of a message has come.
pub(in crate::rooms) fn relay_held(desk: &mut Desk<'_>, rooms: &mut Rooms, held: Held) {
    rooms.waiting.release(&held.room, held.bytes());
    relay_now(desk, rooms, held);
}

fn relay_now(desk: &mut Desk<'_>, rooms: &Rooms, held: Held) {
    let Held { room, sender, frame, control } = held;
    let mut members = rooms.seated(&room, false);
    members.retain(|conn| Some(*conn) != sender);
    desk.tell_text(&members, frame);
    if let Some(control) = control {
        desk.tell_text(&rooms.seated(&room, true), control);
    }
}
