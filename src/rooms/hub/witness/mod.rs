//! What has happened lately, for people who look at the server: the last messages that had their effect, and beside them, so that a busy
//! room does not push it out, what was ignored or refused, and who came and went.
//!
//! Nothing is kept but while somebody looks. Each look lasts a few seconds and the next one renews it; when none comes, everything is
//! forgotten. Who is not looked at pays one comparison of times for each message.

pub(in crate::rooms) mod note;
mod redaction;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use self::note::{Note, Outcome, What};
use self::redaction::{Redacted, redacted};
use super::connection::Dialect;
use super::ignored::Ignored;
use super::space::RoomNumber;
use super::{Due, Hub, Rooms, Timers};
use crate::rooms::broadcast::{Posted, Refusal};
use crate::rooms::{Conn, Moment};
use crate::time::Time;

/// How long after a look things are kept for the next one.
pub(super) const LASTS: Duration = Duration::from_secs(10);

/// How many messages that had their effect are kept, and how many other things.
pub(super) const MOST_KEPT: usize = 200;

/// Rooms whose messages are counted.
const MOST_COUNTED: usize = 10_000;

/// Where something happened.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) dialect: Dialect,
    pub(super) room: Option<String>,
    /// Unless it is not there, or there is none.
    pub(super) number: Option<RoomNumber>,
    /// Unless nobody knows yet.
    pub(super) protected: Option<bool>,
}

/// What is known of a jamjam room.
pub(super) struct Known {
    pub(super) name: String,
    pub(super) protected: bool,
}

/// What is kept.
#[derive(Default)]
pub(in crate::rooms) struct Witness {
    /// Until when somebody looks.
    until: Time,
    /// Whether it is looked after that nothing is kept longer.
    is_timed: bool,
    /// Messages that had their effect, the oldest first.
    messages: VecDeque<Note>,
    /// All other things, likewise.
    others: VecDeque<Note>,
    /// The number of the last note.
    last: u64,
    /// Messages in each room since somebody looks.
    counts: BTreeMap<(Dialect, RoomNumber), u64>,
    /// The jamjam rooms at the last look, by their ids, and the list that tells them.
    pub(super) known: HashMap<String, Known>,
    pub(super) listing: String,
}

impl Witness {
    /// Whether somebody looks.
    pub(super) fn is_on(&self, now: Time) -> bool {
        now < self.until
    }

    /// Somebody looks now.
    pub(super) fn renew(&mut self, now: Time, timers: &mut Timers<Due>) {
        self.until = now + LASTS;
        if !self.is_timed {
            self.is_timed = true;
            timers.enter(self.until, Due::Forget);
        }
    }

    /// Forgets everything but how many there were, if nobody looks any more.
    fn forget(&mut self, now: Time, timers: &mut Timers<Due>) {
        if self.is_on(now) {
            timers.enter(self.until, Due::Forget);
        } else {
            *self = Self { last: self.last, ..Self::default() };
        }
    }

    /// The number of the last note.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// What was noted after `since`, the oldest first; the content of what is protected only if it is asked for.
    pub(super) fn after(&self, since: u64, content: bool) -> Vec<Note> {
        let notes = self.messages.iter().chain(&self.others).filter(|note| note.number > since).cloned();
        let is_hidden = |note: &Note| note.protected && !content;
        let shown = notes.map(|note| if is_hidden(&note) { Note { text: None, ..note } } else { note });
        let mut shown: Vec<Note> = shown.collect();
        shown.sort_unstable_by_key(|note| note.number);
        shown
    }

    /// Messages in a room since somebody looks.
    pub(super) fn count(&self, dialect: Dialect, room: RoomNumber) -> u64 {
        self.counts.get(&(dialect, room)).copied().unwrap_or(0)
    }

    /// Counts no more in rooms that are gone.
    pub(super) fn keep_counts(&mut self, mut is_there: impl FnMut(Dialect, RoomNumber) -> bool) {
        self.counts.retain(|(dialect, room), _| is_there(*dialect, *room));
    }

    /// What was not sure is now, if its room is known.
    pub(super) fn make_sure(&mut self) {
        for note in self.messages.iter_mut().chain(&mut self.others).filter(|note| note.unsure) {
            if let Some(known) = note.room.as_ref().and_then(|room| self.known.get(room)) {
                (note.protected, note.unsure) = (known.protected, false);
            }
        }
    }

    fn note(
        &mut self,
        now: Moment,
        place: Place,
        who: Option<(Conn, IpAddr)>,
        what: What,
        (told, bytes): (Redacted, usize),
        (outcome, reason): (Outcome, Option<String>),
    ) {
        self.last += 1;
        let Redacted { text, kind, is_cut } = told;
        let Place { dialect, room, protected, .. } = place;
        let note = Note {
            number: self.last,
            time: now.unix_us / 1_000,
            what,
            dialect: dialect.name(),
            room,
            protected: protected.unwrap_or(true),
            unsure: protected.is_none(),
            connection: who.map(|(conn, _)| conn.0),
            address: who.map(|(_, from)| from),
            kind,
            bytes,
            outcome,
            reason,
            text: Some(text),
            cut: is_cut,
        };
        let is_ordinary = outcome == Outcome::Taken && !matches!(what, What::Connect | What::End);
        let kept = if is_ordinary { &mut self.messages } else { &mut self.others };
        if kept.len() >= MOST_KEPT {
            kept.pop_front();
        }
        kept.push_back(note);
    }

    /// A message had this effect; without `who` it was posted, without `text` it is binary.
    pub(super) fn message(
        &mut self,
        now: Moment,
        place: Place,
        who: Option<(Conn, IpAddr)>,
        (text, bytes): (Option<&str>, usize),
        why: Option<(Outcome, String)>,
    ) {
        let what = match (who, text) {
            (None, _) => What::Post,
            (_, Some(_)) => What::Message,
            (_, None) => What::Binary,
        };
        if let Some(number) = place.number {
            let room = (place.dialect, number);
            if self.counts.len() < MOST_COUNTED || self.counts.contains_key(&room) {
                *self.counts.entry(room).or_default() += 1;
            }
        }
        let told = text.map_or_else(Redacted::default, redacted);
        let became = why.map_or((Outcome::Taken, None), |(outcome, reason)| (outcome, Some(reason)));
        self.note(now, place, who, what, (told, bytes), became);
    }

    /// Somebody connected.
    pub(super) fn connected(&mut self, now: Moment, place: Place, who: (Conn, IpAddr)) {
        self.note(now, place, Some(who), What::Connect, (Redacted::default(), 0), (Outcome::Taken, None));
    }

    /// A connection has ended with this code, for our reason or in the words of the other side.
    pub(super) fn ended(
        &mut self,
        now: Moment,
        place: Place,
        who: (Conn, IpAddr),
        code: u16,
        ours: Option<&str>,
        theirs: &str,
    ) {
        let ours = ours.filter(|ours| !ours.is_empty());
        let why = ours.map_or_else(String::new, |ours| format!(": {ours}"));
        let reason = if code == LOST { format!("lost{why}") } else { format!("closed with {code}{why}") };
        let outcome = if ours.is_some() { Outcome::Refused } else { Outcome::Taken };
        self.note(now, place, Some(who), What::End, (redacted(theirs), 0), (outcome, Some(reason)));
    }
}

/// How a lost connection is told apart from one that was closed (RFC 6455, section 7.4.1).
const LOST: u16 = 1_006;

impl Rooms {
    /// Says what time it is.
    pub(super) fn tell_time(&mut self, now: Moment) {
        self.broadcast.space.tell_time(now);
        self.jamjam.tell_time(now);
        self.webrtc.tell_time(now);
    }
}

impl Hub {
    /// Forgets what was kept, if nobody looks any more.
    pub(super) fn forget_what_was_seen(&mut self, now: Time) {
        self.witness.forget(now, &mut self.timers);
    }

    /// Where a connection is.
    pub(super) fn place(&mut self, conn: Conn) -> Option<Place> {
        let dialect = self.dialect(conn)?;
        let rooms = &mut self.rooms;
        let nowhere = Place { dialect, room: None, number: None, protected: Some(false) };
        let room = match dialect {
            Dialect::Undecided => None,
            Dialect::Broadcast => rooms.broadcast.space.placed(conn),
            Dialect::Jamjam => rooms.jamjam.placed(conn),
            Dialect::Bbx => rooms.bbx.space.placed(conn),
            Dialect::WebRtc => rooms.webrtc.placed(conn),
        };
        let Some((number, name)) = room else { return Some(nowhere) };
        let protected = match dialect {
            Dialect::Broadcast => Some(rooms.broadcast.handlers.of(&name).requires_auth()),
            Dialect::Jamjam => self.witness.known.get(&name).map(|known| known.protected),
            _ => Some(false),
        };
        Some(Place { dialect, room: Some(name), number: Some(number), protected })
    }

    /// Notes what was posted for a broadcast room.
    pub(super) fn note_post(&mut self, now: Moment, room: &str, body: &[u8], posted: &Result<Posted, Refusal>) {
        if self.witness.is_on(now.at) {
            let Rooms { broadcast, .. } = &mut self.rooms;
            let protected = Some(broadcast.handlers.of(room).requires_auth());
            let (number, room) = (broadcast.space.find(room), Some(room.to_owned()));
            let place = Place { dialect: Dialect::Broadcast, room, number, protected };
            // In a room's own words it may quote the content.
            let why = posted.as_ref().err().map(|refusal| match refusal {
                Refusal::Room(_) => (Outcome::Refused, "its room does not take it".to_owned()),
                other => (Outcome::Refused, other.to_string()),
            });
            let begins = String::from_utf8_lossy(&body[..body.len().min(2 * redaction::LONGEST)]);
            self.witness.message(now, place, None, (Some(&begins), body.len()), why);
        }
    }

    /// Notes a message. `before` is where its sender was.
    pub(super) fn note(
        &mut self,
        now: Moment,
        before: Place,
        who: (Conn, IpAddr),
        text: Option<&str>,
        why: Option<&Ignored>,
    ) {
        let after = self.place(who.0).unwrap_or_else(|| before.clone());
        // Where one goes from a protected room to another, or out, the message belongs to the first.
        let place = Place { dialect: after.dialect, ..if before.room.is_some() { before } else { after } };
        let outcome = |why: &Ignored| if why.is_refusal() { Outcome::Refused } else { Outcome::Ignored };
        let why = why.map(|why| (outcome(why), why.to_string()));
        self.witness.message(now, place, Some(who), (text, text.map_or(0, str::len)), why);
    }
}
