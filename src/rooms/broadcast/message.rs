//! What becomes of a message: checked, acknowledged or transformed, delayed, relayed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tracing::debug;

use super::envelope::{Source, Told, framed};
use super::{Rooms, Seat};
use crate::rooms::Moment;
use crate::rooms::bounded_text::{length, read_again, written_within};
use crate::rooms::desk::Desk;
use crate::rooms::due::Due;
use crate::rooms::handler::{Client, Context, Relay, Room};
use crate::rooms::ignored::Ignored;
use crate::rooms::json::{self, Unread};
use crate::rooms::limits::Limits;

/// The longest delay of a message.
pub const LONGEST_DELAY: Duration = Duration::from_secs(3_600);

/// A message that waits for its time: as text, so that it is kept in about as many bytes as it is counted.
pub(in crate::rooms) struct Held {
    room: String,
    sender: Option<Arc<Client>>,
    /// When it was said, as its frame will tell.
    at: Moment,
    /// Which of the two it is.
    form: fn(Value) -> Relay,
    payload: String,
    bytes: usize,
}

/// Who has said something, where and when.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) room: &'a str,
    /// Nobody who is there, if it was posted over HTTP.
    pub(super) sender: Option<&'a Arc<Client>>,
    pub(super) at: Moment,
}

/// Nobody can say more for now: too much waits for its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyWaiting;

/// Does what a member's `text` asks.
pub(in crate::rooms) fn on_text(
    desk: &mut Desk<'_>,
    rooms: &mut Rooms,
    limits: &Limits,
    text: &str,
) -> Result<(), Ignored> {
    let (own, room) = rooms.space.member(desk.conn()).ok_or(Ignored::NoRoom)?;
    let (Seat { client, control }, name) = (own.data.clone(), room.name().to_owned());
    if control {
        return refuse(desk, "Control channel is receive-only");
    }
    let settings = &limits.broadcast;
    if text.len() > settings.payload_bytes {
        return Err(Ignored::TooLong(settings.payload_bytes));
    }
    let payload = match json::read(text) {
        Ok(payload) => payload,
        Err(Unread::NotJson) => return refuse(desk, "Invalid JSON payload"),
        Err(Unread::TooMuch) => return refuse(desk, "Payload is too deep or has too many values"),
    };
    if !payload.is_object() && !payload.is_array() {
        return refuse(desk, "Payload must be a JSON object");
    }
    let room = rooms.now(&name, desk.now);
    let handler = rooms.handlers.of(&name);
    if let Err(error) = handler.validate_message(&room, &client, &payload) {
        desk.refused();
        desk.answer(&Told::Error { error: &error });
        // In its own words it may have quoted the message, which is nobody else's business.
        return Err(Ignored::Refused("its room does not take it"));
    }
    if let Some(kind) = payload.get("type").and_then(Value::as_str)
        && settings.suppressed.iter().any(|suppressed| suppressed.eq_ignore_ascii_case(kind))
    {
        desk.answer(&Told::Ack { ack_type: kind, received_at: desk.unix_ms() });
        return Ok(());
    }
    let relay = handler.on_message(&room, &client, payload).ok_or(Ignored::Dropped)?;
    let said = Said { room: &name, sender: Some(&client), at: desk.now };
    match relay_soon(desk, rooms, limits, said, &relay) {
        Ok(_) => Ok(()),
        Err(TooManyWaiting) => refuse(desk, "Too many delayed messages are waiting"),
    }
}

/// Tells whose turn it is why nothing comes of what they said.
fn refuse(desk: &mut Desk<'_>, error: &'static str) -> Result<(), Ignored> {
    desk.refused();
    desk.answer(&Told::Error { error });
    Err(Ignored::Refused(error))
}

/// Relays a message when its delay is over, and says how long that is.
pub(super) fn relay_soon(
    desk: &mut Desk<'_>,
    rooms: &mut Rooms,
    limits: &Limits,
    said: Said<'_>,
    relay: &Relay,
) -> Result<Duration, TooManyWaiting> {
    let settings = &limits.broadcast;
    let Said { room: name, sender, at } = said;
    let context =
        Context { room: rooms.now(name, desk.now), sender: sender.map(Arc::as_ref), payload: relay.payload() };
    let delay = rooms.handlers.of(name).broadcast_delay(&context).min(LONGEST_DELAY);
    if delay.is_zero() {
        relay_now(desk, rooms, limits, said, relay);
        return Ok(delay);
    }
    let form = match relay {
        Relay::Message(_) => Relay::Message,
        Relay::Content(_) => Relay::Content,
    };
    let payload = written_within(relay.payload(), settings.waiting_bytes).ok_or(TooManyWaiting)?;
    // Whoever said it may leave, and is kept for as long as it waits.
    let bytes = payload.len() + name.len() + sender.map_or(0, |client| weight(client));
    if !rooms.waiting.admit(name, bytes, settings.waiting, settings.waiting_bytes) {
        return Err(TooManyWaiting);
    }
    debug!("A message waits for {delay:?}");
    let held = Held { room: name.to_owned(), sender: sender.cloned(), at, form, payload, bytes };
    desk.later(desk.now.at + delay, Due::Relay(Box::new(held)));
    Ok(delay)
}

/// The bytes of what is known of somebody.
fn weight(client: &Client) -> usize {
    let query: usize = client.query.iter().map(|(name, value)| name.len() + value.len()).sum();
    query + client.claims.as_ref().map_or(0, length)
}

/// The time of a message has come.
pub(in crate::rooms) fn relay_held(desk: &mut Desk<'_>, rooms: &mut Rooms, limits: &Limits, held: Held) {
    let Held { room, sender, at, form, payload, bytes } = held;
    rooms.waiting.release(&room, bytes);
    // It was written here, so it can be read.
    let Some(payload) = read_again(&payload) else { return };
    relay_now(desk, rooms, limits, Said { room: &room, sender: sender.as_ref(), at }, &form(payload));
}

fn relay_now(desk: &mut Desk<'_>, rooms: &mut Rooms, limits: &Limits, said: Said<'_>, relay: &Relay) {
    let Said { room: name, sender, at } = said;
    let room = rooms.now(name, desk.now);
    // Asked also where nobody listens: a room remembers what was relayed.
    let context = Context { room, sender: sender.map(Arc::as_ref), payload: relay.payload() };
    let control = rooms.handlers.of(name).control_payload(&context);
    let mut members = rooms.seated(name, false);
    members.retain(|conn| Some(*conn) != sender.map(|client| client.conn));
    if !members.is_empty() {
        let source = sender.map_or(Source::Http, |client| Source::Member(client.id()));
        desk.tell_text(&members, framed(limits.broadcast.envelope, &Room { now: at, ..room }, source, relay));
    }
    if let Some(control) = control {
        desk.tell(&rooms.seated(name, true), &control);
    }
}
