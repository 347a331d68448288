//! Groups that come in.

use super::super::code;
use super::super::deframe::GroupPiece;
use super::Session;
use super::action::{Action, Event, Stream};
use super::entry::{Entry, Role};

impl Session {
    pub(super) fn on_group(&mut self, stream: Stream, piece: GroupPiece) {
        match piece {
            // Our own numbers are known from the moment we write them: a group cannot rightly come before.
            GroupPiece::Began(group) if self.subscriptions.knows(group.subscription) => {
                if let Some(Entry { role: Role::Group { known, .. }, .. }) = self.streams.get_mut(&stream) {
                    *known = true;
                }
                self.counts.groups_heard += 1;
                let (subscription, sequence) = (group.subscription, group.sequence);
                self.events.push_back(Event::GroupBegan { group: stream, subscription, sequence });
            }
            GroupPiece::Began(_) => {
                self.counts.groups_refused += 1;
                self.forget(stream);
                self.actions.push_back(Action::Stop(stream, code::NO_SUBSCRIPTION));
            }
            GroupPiece::Frame(payload) => {
                self.counts.frames_heard += 1;
                self.counts.bytes_heard += payload.len() as u64;
                self.events.push_back(Event::Frame { group: stream, payload });
            }
        }
    }

    /// A group has ended, or broken off with a code.
    pub(super) fn on_group_over(&mut self, group: Stream, code: Option<u32>) {
        self.counts.groups_broken += u64::from(code.is_some());
        self.events.push_back(match code {
            None => Event::GroupEnded { group },
            Some(code) => Event::GroupLost { group, code },
        });
    }
}
