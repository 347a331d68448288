//! What the other end asks of us: what there is, and tracks.

use super::super::code;
use super::super::fields::Malformed;
use super::super::message::{
    Announce, AnnounceInit, AnnouncePlease, Body, Flavour, Status, Subscribe, SubscribeOk, SubscribeUpdate,
};
use super::super::path::Path;
use super::Session;
use super::action::{Action, Event, Kind, Stream};
use super::entry::{Entry, Role, Serving};

impl Session {
    /// Answers [`Event::Asked`] with all that there is now: once, and before any [`Session::announce`].
    pub fn answer<'a>(&mut self, asked: Stream, paths: impl IntoIterator<Item = &'a Path>) {
        let Some(flavour) = self.flavour() else { return };
        let Some(prefix) = self.prefix_of(asked) else { return };
        match flavour {
            Flavour::Seed => {
                for path in paths {
                    self.announce(asked, path, Status::Active);
                }
            }
            Flavour::Head => {
                let suffixes = paths.into_iter().map(|path| path.after(&prefix)).collect();
                self.say(asked, AnnounceInit { suffixes }.framed(flavour));
            }
        }
    }

    /// Tells who asked of one path more, or of one less.
    pub fn announce(&mut self, asked: Stream, path: &Path, status: Status) {
        let Some(flavour) = self.flavour() else { return };
        let Some(prefix) = self.prefix_of(asked) else { return };
        let path = match flavour {
            Flavour::Seed => path.clone(),
            Flavour::Head => Path(vec![path.after(&prefix)]),
        };
        self.say(asked, Announce { status, path, ..Announce::default() }.framed(flavour));
    }

    fn prefix_of(&self, asked: Stream) -> Option<Path> {
        match &self.streams.get(&asked)?.role {
            Role::Asked { prefix } => prefix.clone(),
            _ => None,
        }
    }

    /// Agrees to a subscription: groups may be sent.
    pub fn accept(&mut self, subscriber: Stream) {
        let Some(flavour) = self.flavour() else { return };
        if let Some(Entry { role: Role::Serving(Some(serving)), .. }) = self.streams.get_mut(&subscriber)
            && !serving.agreed
        {
            serving.agreed = true;
            self.counts.subscriptions += 1;
            self.say(subscriber, SubscribeOk::default().framed(flavour));
        }
    }

    /// Refuses a conversation that the other end began. Nothing is told of it any more.
    pub fn refuse(&mut self, stream: Stream, code: u32) {
        let Some(entry) = self.forget(stream) else { return };
        self.counts.subscriptions_refused += u64::from(matches!(entry.role, Role::Serving(_)));
        self.turn_away(stream, entry.kind, code);
    }

    /// Ends a subscription of the other end in peace: its track has ended. Groups that have begun go on.
    pub fn end_subscriber(&mut self, subscriber: Stream) {
        if let Some(entry) = self.forget(subscriber) {
            self.finish(subscriber, &entry);
            self.actions.push_back(Action::Stop(subscriber, code::NONE));
        }
    }

    pub(super) fn on_asked(&mut self, stream: Stream, body: &[u8]) -> Result<(), Malformed> {
        let Some(flavour) = self.flavour() else { return Ok(()) };
        let Some(Entry { role: Role::Asked { prefix }, .. }) = self.streams.get_mut(&stream) else { return Ok(()) };
        if prefix.is_some() {
            self.counts.messages_ignored += 1;
            return Ok(());
        }
        let please = AnnouncePlease::parse(flavour, body)?;
        if please.prefix.len() > self.limits.path_bytes {
            self.counts.streams_refused += 1;
            self.refuse(stream, code::TOO_MUCH);
            return Ok(());
        }
        *prefix = Some(please.prefix.clone());
        self.events.push_back(Event::Asked { asked: stream, prefix: please.prefix });
        Ok(())
    }

    pub(super) fn on_serving(&mut self, stream: Stream, body: &[u8]) -> Result<(), Malformed> {
        let Some(flavour) = self.flavour() else { return Ok(()) };
        let Some(entry) = self.streams.get_mut(&stream) else { return Ok(()) };
        if let Role::Serving(Some(serving)) = &mut entry.role {
            serving.subscribe.range = kept(SubscribeUpdate::parse(flavour, body)?);
            return Ok(());
        }
        let subscribe = Subscribe::parse(flavour, body)?;
        let subscribe = Subscribe { range: kept(subscribe.range), ..subscribe };
        let (id, track) = (subscribe.id, subscribe.track.clone());
        let others = self.streams.values().filter_map(|entry| match &entry.role {
            Role::Serving(Some(serving)) => Some(serving.subscribe.id),
            _ => None,
        });
        let ids: Vec<u64> = others.collect();
        let refusal = if ids.contains(&id) {
            Some(code::DUPLICATE)
        } else if ids.len() >= self.limits.subscriptions || track.len() > self.limits.path_bytes {
            Some(code::TOO_MUCH)
        } else {
            None
        };
        if let Some(code) = refusal {
            self.refuse(stream, code);
            return Ok(());
        }
        if let Some(entry) = self.streams.get_mut(&stream) {
            entry.role = Role::Serving(Some(Serving { subscribe, agreed: false }));
            self.events.push_back(Event::SubscribeAsked { subscriber: stream, track });
        }
        Ok(())
    }

    /// The other end does not want a track any more: what has not been taken of its groups is forgotten.
    pub(super) fn on_unsubscribed(&mut self, subscriber: Stream) {
        for group in self.outbox.of(subscriber) {
            self.counts.groups_unwanted += 1;
            self.reset_group(group, code::UNWANTED);
            self.events.push_back(Event::GroupDropped { group });
        }
        self.events.push_back(Event::Unsubscribed { subscriber });
    }

    /// The number of a subscription that was agreed to, if it wants this group.
    pub(super) fn wanted_by(&self, subscriber: Stream, sequence: u64) -> Option<u64> {
        let entry = self.streams.get(&subscriber).filter(|entry| entry.kind == Kind::Bidi)?;
        let Role::Serving(Some(serving)) = &entry.role else { return None };
        (serving.agreed && serving.subscribe.range.wants(sequence)).then_some(serving.subscribe.id)
    }
}

/// What is kept of a range: its parameters say nothing that is used here, and may be long.
fn kept(mut range: SubscribeUpdate) -> SubscribeUpdate {
    range.parameters = Vec::new();
    range
}
