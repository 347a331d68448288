//! A client that sends its second frame only after it has received the echo of the first.

use jamjam_dev::moqt::message::SubscribeUpdate;
use jamjam_dev::moqt::version::PathFormat;
use jamjam_dev::moqt::{Session, SessionEvent, SessionHandler, StreamHandle, TrackPath, error_code};
use jamjam_dev::time::Time;

/// Sends two frames in one group, and records the received frames in order.
#[derive(Debug, Default)]
pub(crate) struct OrderedExchange {
    group: Option<StreamHandle>,
    listener: Option<StreamHandle>,
    subscribed: bool,
    pub(crate) received: Vec<String>,
}

impl OrderedExchange {
    /// The requested prefix, the announced path and the track.
    fn paths(session: &Session) -> [TrackPath; 3] {
        match session.version().unwrap().rules().paths {
            PathFormat::Parts => {
                let prefix = TrackPath::from_parts(["japan", "kyoto"]);
                let track = prefix.join("text");
                [prefix, track.clone(), track]
            }
            PathFormat::Text | PathFormat::Segments => {
                let path = TrackPath::from_parts(["/client.echo"]);
                [TrackPath::from_parts(["/"]), path.clone(), path.join("index")]
            }
        }
    }

    /// Starts once both ends have subscribed.
    fn begin(&mut self, session: &mut Session) {
        if let (Some(listener), true, None) = (self.listener, self.subscribed, self.group) {
            self.group = session.open_group(listener, 1);
            self.send_word(session, "first");
        }
    }

    fn send_word(&self, session: &mut Session, word: &'static str) {
        session.send_frame(self.group.unwrap(), word.into());
    }
}

impl SessionHandler for OrderedExchange {
    fn on_event(&mut self, _: Time, session: &mut Session, event: SessionEvent) {
        match event {
            SessionEvent::Established { .. } => {
                let [prefix, ..] = Self::paths(session);
                session.request_announcements(&prefix);
            }
            SessionEvent::AnnounceRequested { announce_stream, .. } => {
                let [_, path, _] = Self::paths(session);
                session.announce_all(announce_stream, [&path]);
            }
            SessionEvent::SubscribeRequested { subscribe_stream, .. } => {
                session.accept_subscribe(subscribe_stream);
                self.listener = Some(subscribe_stream);
            }
            SessionEvent::Announced { .. } => {
                let [.., track] = Self::paths(session);
                session.subscribe(&track, &SubscribeUpdate::default());
            }
            SessionEvent::SubscribeAccepted { .. } => self.subscribed = true,
            SessionEvent::FrameReceived { payload, .. } => {
                let word = String::from_utf8(payload.to_vec()).unwrap();
                match &*word {
                    "first" => self.send_word(session, "second"),
                    _ => session.finish_group(self.group.unwrap()),
                }
                self.received.push(word);
            }
            SessionEvent::GroupEnded { .. } => {
                self.received.push("end".to_owned());
                session.close(error_code::NO_ERROR, "done");
            }
            _ => {}
        }
        self.begin(session);
    }

    fn handle_timeout(&mut self, _: Time, _: &mut Session) {}

    fn next_deadline(&self) -> Option<Time> {
        None
    }
}
