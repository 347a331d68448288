//! What we ask of the other end: what there is, and tracks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::code;
use super::super::fields::Malformed;
use super::super::message::{
    Announce, AnnounceInit, AnnouncePlease, Body, Flavour, Status, StreamType, Subscribe, SubscribeGap, SubscribeOk,
};
use super::super::path::Path;
use super::Session;
use super::action::{Action, Event, Kind, Stream};
use super::entry::{Asking, Entry, Role};

/// Ended subscriptions whose late groups are still welcome.
const RECENT: usize = 16;

/// Our subscriptions.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    next: u64,
    live: BTreeMap<u64, Stream>,
    /// Those that ended last: a group may come after the end of its subscription, on another stream.
    ended: VecDeque<u64>,
}

impl Subscriptions {
    pub(super) fn knows(&self, subscription: u64) -> bool {
        self.live.contains_key(&subscription) || self.ended.contains(&subscription)
    }
}

impl Session {
    /// Asks what there is under `prefix`. Told by [`Event::Announced`].
    pub fn ask(&mut self, prefix: &Path) {
        let Some(flavour) = self.flavour() else { return };
        let please = AnnouncePlease { prefix: prefix.clone(), ..AnnouncePlease::default() };
        let asking = Asking { prefix: prefix.clone(), answered: flavour == Flavour::Seed, announced: BTreeSet::new() };
        self.converse(StreamType::Announce, Role::Asking(asking), &please.framed(flavour));
    }

    /// Subscribes to a track, and says by which number. Told by [`Event::Subscribed`] or [`Event::SubscriptionEnded`].
    pub fn subscribe(&mut self, track: &Path) -> u64 {
        let subscription = self.subscriptions.next;
        let Some(flavour) = self.flavour() else { return subscription };
        self.subscriptions.next += 1;
        let subscribe = Subscribe { id: subscription, track: track.clone(), ..Subscribe::default() };
        let role = Role::Subscribing { subscription, agreed: false };
        let stream = self.converse(StreamType::Subscribe, role, &subscribe.framed(flavour));
        self.subscriptions.live.insert(subscription, stream);
        subscription
    }

    /// Ends a subscription of ours. Groups that have begun still come.
    pub fn unsubscribe(&mut self, subscription: u64) {
        let Some(stream) = self.subscriptions.live.remove(&subscription) else { return };
        self.retire(subscription);
        if let Some(entry) = self.forget(stream) {
            self.finish(stream, &entry);
            self.actions.push_back(Action::Stop(stream, code::NONE));
        }
    }

    fn converse(&mut self, kind: StreamType, role: Role, message: &[u8]) -> Stream {
        let stream = self.open(Kind::Bidi);
        self.streams.insert(stream, Entry::new(Kind::Bidi, role));
        self.say(stream, [&[kind as u8], message].concat());
        stream
    }

    fn retire(&mut self, subscription: u64) {
        self.subscriptions.ended.push_back(subscription);
        if self.subscriptions.ended.len() > RECENT {
            self.subscriptions.ended.pop_front();
        }
    }

    pub(super) fn on_subscription_ended(&mut self, subscription: u64, code: Option<u32>) {
        self.subscriptions.live.remove(&subscription);
        self.retire(subscription);
        self.events.push_back(Event::SubscriptionEnded { subscription, code });
    }

    /// An answer to [`Session::ask`].
    pub(super) fn on_announcement(&mut self, stream: Stream, body: &[u8]) -> Result<(), Malformed> {
        let Some(flavour) = self.flavour() else { return Ok(()) };
        let Some(Entry { role: Role::Asking(asking), .. }) = self.streams.get_mut(&stream) else { return Ok(()) };
        let told: Vec<Announce> = if !asking.answered {
            asking.answered = true;
            let active = |suffix| Announce { path: Path(vec![suffix]), ..Announce::default() };
            AnnounceInit::parse(flavour, body)?.suffixes.into_iter().map(active).collect()
        } else if body.is_empty() && flavour == Flavour::Seed {
            // What follows the original program's LIVE.
            Vec::new()
        } else {
            vec![Announce::parse(flavour, body)?]
        };
        for Announce { status, path, .. } in told {
            let path = Path::announced(path, &asking.prefix, flavour);
            let is_known = asking.announced.contains(&path);
            match status {
                Status::Ended if is_known => {
                    asking.announced.remove(&path);
                    self.events.push_back(Event::Unannounced { path });
                }
                Status::Active if is_known => self.counts.messages_ignored += 1,
                Status::Active
                    if asking.announced.len() >= self.limits.announcements
                        || path.len() > self.limits.path_bytes
                        || path.is_empty() =>
                {
                    self.counts.announcements_refused += 1;
                }
                Status::Active => {
                    self.counts.announcements += 1;
                    asking.announced.insert(path.clone());
                    self.events.push_back(Event::Announced { path });
                }
                Status::Ended | Status::Live => self.counts.messages_ignored += 1,
            }
        }
        Ok(())
    }

    /// An answer to [`Session::subscribe`], or what is told after it.
    pub(super) fn on_subscribe_reply(&mut self, stream: Stream, body: &[u8]) -> Result<(), Malformed> {
        let Some(flavour) = self.flavour() else { return Ok(()) };
        let Some(Entry { role: Role::Subscribing { subscription, agreed }, .. }) = self.streams.get_mut(&stream) else {
            return Ok(());
        };
        if *agreed {
            if flavour == Flavour::Seed {
                SubscribeGap::parse(flavour, body)?;
            }
            self.counts.messages_ignored += 1;
        } else {
            SubscribeOk::parse(flavour, body)?;
            *agreed = true;
            self.events.push_back(Event::Subscribed { subscription: *subscription });
        }
        Ok(())
    }
}
