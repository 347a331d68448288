//! What the server's end is for: whatever the client announces it subscribes to, announces back, and serves to whoever
//! subscribes: the same groups, the same frames, each as it comes.

mod line;

use std::collections::BTreeMap;
use std::time::Duration;

use super::code;
use super::counts::Counts;
use super::message::{Flavour, Status};
use super::path::Path;
use super::peer::Application;
use super::session::{Event, Session, Stream};
use crate::time::Time;
use line::{Item, Line};

/// What to echo, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What announcements are asked for.
    pub prefix: Path,
    /// The same for clients of the head's flavour.
    pub head_prefix: Path,
    /// The track of a broadcast that is echoed, in the head's flavour.
    pub head_track: String,
    /// How long each frame waits.
    pub delay: Duration,
    /// Bytes of frames that wait for their time or for a subscriber, at most.
    pub waiting_bytes: usize,
    /// Groups that wait for the first subscriber of their track, at most.
    pub early_groups: usize,
    /// How long a subscription may wait for its track to be announced.
    pub patience: Duration,
}

impl Default for Config {
    /// `japan, kyoto`, or `/` and the track `index`; no delay; 4 MiB and 4 groups at most wait; subscriptions for 5 s.
    fn default() -> Self {
        Self {
            prefix: Path::of(["japan", "kyoto"]),
            head_prefix: Path::of(["/"]),
            head_track: "index".to_owned(),
            delay: Duration::ZERO,
            waiting_bytes: 4 << 20,
            early_groups: 4,
            patience: Duration::from_secs(5),
        }
    }
}

/// Something that the client announces.
#[derive(Debug)]
struct Track {
    path: Path,
    subscribers: Vec<Stream>,
    /// Whether no more of it will come: it goes once the last of it has left.
    ended: bool,
}

/// The echo of one connection.
#[derive(Debug)]
pub struct Echo {
    config: Config,
    /// What is announced, by our subscription to it.
    tracks: BTreeMap<u64, Track>,
    /// Who wants to know what there is, and under which prefix.
    askers: BTreeMap<Stream, Path>,
    /// Who has subscribed to what is not announced yet, and until when that may wait.
    early: BTreeMap<Stream, (Time, Path)>,
    line: Line,
    /// Whether more is due than was handed on in one turn.
    behind: bool,
    counts: Counts,
}

impl Echo {
    /// The echo of one connection.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            tracks: BTreeMap::new(),
            askers: BTreeMap::new(),
            early: BTreeMap::new(),
            line: Line::default(),
            behind: false,
            counts: Counts::default(),
        }
    }

    /// Bytes that all that waits is charged; more than [`Config::waiting_bytes`] only within one turn.
    pub fn waiting(&self) -> usize {
        self.line.charged()
    }

    fn on_announced(&mut self, session: &mut Session, path: Path) {
        let Some(flavour) = session.flavour() else { return };
        for (asked, prefix) in &self.askers {
            if path.is_under(prefix, flavour) {
                session.announce(*asked, &path, Status::Active);
            }
        }
        let track = self.track_of(flavour, &path);
        let subscription = session.subscribe(&track);
        let early: Vec<Stream> =
            self.early.iter().filter(|(_, (_, wanted))| *wanted == track).map(|(stream, _)| *stream).collect();
        for subscriber in &early {
            self.early.remove(subscriber);
            session.accept(*subscriber);
        }
        self.tracks.insert(subscription, Track { path, subscribers: early, ended: false });
    }

    /// A track has ended: nobody can subscribe to it any more, and it goes once the last of it has left.
    fn on_ended(&mut self, session: &mut Session, subscription: u64) {
        let Some(flavour) = session.flavour() else { return };
        let Some(track) = self.tracks.get_mut(&subscription).filter(|track| !track.ended) else { return };
        track.ended = true;
        for (asked, prefix) in &self.askers {
            if track.path.is_under(prefix, flavour) {
                session.announce(*asked, &track.path, Status::Ended);
            }
        }
    }

    fn on_subscribe(&mut self, now: Time, session: &mut Session, subscriber: Stream, wanted: Path) {
        let Some(flavour) = session.flavour() else { return };
        let found = self
            .tracks
            .values_mut()
            .find(|track| !track.ended && Self::name(&self.config, flavour, &track.path) == wanted);
        if let Some(track) = found {
            session.accept(subscriber);
            track.subscribers.push(subscriber);
        } else {
            self.early.insert(subscriber, (now + self.config.patience, wanted));
        }
    }

    /// The track that carries what is announced as `path`.
    fn track_of(&self, flavour: Flavour, path: &Path) -> Path {
        Self::name(&self.config, flavour, path)
    }

    fn name(config: &Config, flavour: Flavour, path: &Path) -> Path {
        match flavour {
            Flavour::Seed => path.clone(),
            Flavour::Head => path.with(&config.head_track),
        }
    }

    fn live(&self, path: &Path) -> Option<u64> {
        self.tracks.iter().find(|(_, track)| !track.ended && track.path == *path).map(|(subscription, _)| *subscription)
    }

    /// Hands on what is due, as much as one turn may, and lets go of what has ended.
    fn pump(&mut self, now: Time, session: &mut Session) {
        let tracks = &self.tracks;
        let subscribers = |subscription| tracks.get(&subscription).map_or(&[][..], |track| &track.subscribers);
        let pumped = self.line.pump(now, session, subscribers);
        self.behind = pumped.behind;
        let (no_room, no_reader) = self.line.shed(self.config.waiting_bytes, session, |id| !subscribers(id).is_empty());
        self.counts.groups_no_room += no_room;
        self.counts.groups_unheard += no_reader + pumped.unwanted;
        let line = &self.line;
        self.tracks.retain(|subscription, track| {
            let is_over = track.ended && (track.subscribers.is_empty() || !line.has(*subscription));
            if is_over {
                track.subscribers.iter().for_each(|subscriber| session.end_subscriber(*subscriber));
            }
            !is_over
        });
        let tracks = &self.tracks;
        let is_over = |subscription: u64| !tracks.contains_key(&subscription);
        self.counts.groups_unheard += self.line.shed_orphans(session, is_over);
    }
}

impl Application for Echo {
    fn on_event(&mut self, now: Time, session: &mut Session, event: Event) {
        let due = now + self.config.delay;
        match event {
            Event::Established { flavour, .. } => {
                let prefix = match flavour {
                    Flavour::Seed => &self.config.prefix,
                    Flavour::Head => &self.config.head_prefix,
                };
                session.ask(prefix);
            }
            Event::Asked { asked, prefix } => {
                let Some(flavour) = session.flavour() else { return };
                let live = self.tracks.values().filter(|track| !track.ended && track.path.is_under(&prefix, flavour));
                session.answer(asked, live.map(|track| &track.path));
                self.askers.insert(asked, prefix);
            }
            Event::Unasked { asked } => drop(self.askers.remove(&asked)),
            Event::Announced { path } => self.on_announced(session, path),
            Event::Unannounced { path } => {
                if let Some(subscription) = self.live(&path) {
                    session.unsubscribe(subscription);
                    self.on_ended(session, subscription);
                }
            }
            Event::SubscribeAsked { subscriber, track } => self.on_subscribe(now, session, subscriber, track),
            Event::Unsubscribed { subscriber } => {
                self.early.remove(&subscriber);
                self.tracks.values_mut().for_each(|track| track.subscribers.retain(|other| *other != subscriber));
            }
            Event::SubscriptionEnded { subscription, .. } => self.on_ended(session, subscription),
            Event::GroupBegan { group, subscription, sequence } => {
                self.line.begin(group, subscription, sequence);
                if self.tracks.get(&subscription).is_some_and(|track| track.subscribers.is_empty()) {
                    let most = self.config.early_groups;
                    self.counts.groups_unheard += self.line.shed_waiting(subscription, most, session);
                }
            }
            Event::Frame { group, payload } => self.line.push(group, due, Item::Frame(payload)),
            Event::GroupEnded { group } => self.line.push(group, due, Item::End),
            Event::GroupLost { group, code } => self.line.push(group, due, Item::Broken(code)),
            Event::Subscribed { .. } | Event::GroupDropped { .. } | Event::Closed { .. } => {}
        }
    }

    fn on_settled(&mut self, now: Time, session: &mut Session) {
        if !session.is_closed() {
            self.pump(now, session);
        }
    }

    fn on_time(&mut self, now: Time, session: &mut Session) {
        let late: Vec<Stream> =
            self.early.iter().filter(|(_, (by, _))| now >= *by).map(|(subscriber, _)| *subscriber).collect();
        for subscriber in late {
            self.early.remove(&subscriber);
            session.refuse(subscriber, code::NO_TRACK);
        }
        self.pump(now, session);
    }

    fn deadline(&self) -> Option<Time> {
        let has_subscribers =
            |subscription| self.tracks.get(&subscription).is_some_and(|track| !track.subscribers.is_empty());
        let refusals = self.early.values().map(|(by, _)| *by);
        refusals.chain(self.line.deadline(has_subscribers)).min()
    }

    fn is_behind(&self) -> bool {
        self.behind
    }

    fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }
}
