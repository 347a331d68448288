//! A client that says its second word only when it has heard the first.

use jamjam_dev::moqt::{Application, Event, Path, Session, Stream, code};
use jamjam_dev::time::Time;

/// The two words in one group, and what was heard, in order.
#[derive(Debug, Default)]
pub(crate) struct Dialogue {
    group: Option<Stream>,
    listener: Option<Stream>,
    subscribed: bool,
    pub(crate) heard: Vec<String>,
}

impl Dialogue {
    fn track() -> Path {
        Path::of(["japan", "kyoto", "text"])
    }

    /// Begins once both have subscribed.
    fn begin(&mut self, session: &mut Session) {
        if let (Some(listener), true, None) = (self.listener, self.subscribed, self.group) {
            self.group = session.open_group(listener, 1);
            self.say(session, "first");
        }
    }

    fn say(&self, session: &mut Session, word: &'static str) {
        session.send_frame(self.group.unwrap(), word.into());
    }
}

impl Application for Dialogue {
    fn on_event(&mut self, _: Time, session: &mut Session, event: Event) {
        match event {
            Event::Established { .. } => session.ask(&Path::of(["japan", "kyoto"])),
            Event::Asked { asked, .. } => session.answer(asked, [&Self::track()]),
            Event::SubscribeAsked { subscriber, .. } => {
                session.accept(subscriber);
                self.listener = Some(subscriber);
            }
            Event::Announced { path } => drop(session.subscribe(&path)),
            Event::Subscribed { .. } => self.subscribed = true,
            Event::Frame { payload, .. } => {
                let word = String::from_utf8(payload.to_vec()).unwrap();
                match &*word {
                    "first" => self.say(session, "second"),
                    _ => session.finish_group(self.group.unwrap()),
                }
                self.heard.push(word);
            }
            Event::GroupEnded { .. } => {
                self.heard.push("end".to_owned());
                session.close(code::NONE, "done");
            }
            _ => {}
        }
        self.begin(session);
    }

    fn on_time(&mut self, _: Time, _: &mut Session) {}

    fn deadline(&self) -> Option<Time> {
        None
    }
}
