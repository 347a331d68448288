//! Transcripts: the messages between clients and a signaling server, in order.
//!
//! ```text
//! # A comment.
//! ann connects                                    to /; "ann connects to /ws?x=1": to another place
//! ann> {"type":"ListRooms"}                       ann says this
//! ann< {"type":"RoomList","data":{"rooms":[]}}    the next message that ann gets
//! ann sends binary                                a binary message
//! ann receives nothing                               no message is waiting for ann
//! ann closes                                      by a close; "ann is cut": the connection is lost
//! ann is closed 1008 Too much                     the server closes ann's connection, with this code and reason
//! 30s pass                                        the clock moves: in memory only
//! program creates room 1234 for 2 expiring 60       the program that the server belongs to acts: it creates a room of control surfaces
//! ann is pinged                                   by the server, since the clock last moved; "ann is dropped": without a close
//! ```
//!
//! `$name` in a string stands for a value that the server chose (see [`super::compare`]). The effect of a line is received
//! before the next line at which a client acts, and at the end no message is left.

use crate::compare::{Bindings, Spelling};

/// Where a transcript is played: a hub in memory, or sockets. An `Err` is a sentence about what went wrong.
pub trait Stage {
    /// A client connects to this path and query.
    fn connect(&mut self, name: &str, to: &str) -> Result<(), String>;
    /// It sends this as one text message.
    fn say(&mut self, name: &str, text: &str) -> Result<(), String>;
    /// It sends a binary message.
    fn send_binary(&mut self, name: &str) -> Result<(), String>;
    /// It closes its connection.
    fn close(&mut self, name: &str) -> Result<(), String>;
    /// Its connection is lost.
    fn cut(&mut self, name: &str) -> Result<(), String>;
    /// The next message that it gets.
    fn hear(&mut self, name: &str) -> Result<String, String>;
    /// `Err` if a message is waiting for it.
    fn silent(&mut self, name: &str) -> Result<(), String>;
    /// The server closes its connection, which is gone then: with which code and reason. After a drop there are none.
    fn closed(&mut self, name: &str) -> Result<Option<(u16, String)>, String>;
    /// Whether the server has pinged it since the clock last moved.
    fn pinged(&mut self, name: &str) -> Result<(), String>;
    /// The clock moves by so many seconds. False: it cannot here.
    fn pass(&mut self, seconds: u64) -> bool;
    /// The program acts: `creates room CODE [for MEMBERS [expiring SECONDS]]`, `closes room CODE`, `sets NAME VALUE [in CODE]`,
    /// `declares NAME MIN MAX [at VALUE]`, `shows VALUE… [in CODE]`. False: it cannot here.
    fn program(&mut self, deed: &str) -> Result<bool, String> {
        Err(format!("no program is here that {deed}"))
    }
    /// Before a client acts: `Err` if a message is known to be waiting for any client.
    fn settled(&mut self) -> Result<(), String>;
}

/// How much of a transcript was played.
#[derive(Debug, PartialEq, Eq)]
pub enum Played {
    /// Every line.
    Whole,
    /// Up to where the clock would have to be moved, or the program to act, which it cannot here.
    UpToTheClock,
    /// Up to this line, which spells an id in another case, and the id had no letter: there is nothing to show.
    Until(usize),
}

/// One line that is not a comment.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    Connects(&'a str),
    Passes(u64),
    Program(&'a str),
    IsPinged,
    IsClosed(u16, &'a str),
    IsDropped,
    Says(&'a str),
    SendsBinary,
    Closes,
    IsCut,
    Hears(&'a str),
    HearsNothing,
}

/// The client's name and what happens, from a line; `None` for comments and empty lines.
pub fn step(line: &str) -> Result<Option<(&str, Step<'_>)>, String> {
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if let Some(seconds) = line.trim_end().strip_suffix("s pass").and_then(|seconds| seconds.parse().ok()) {
        return Ok(Some(("", Step::Passes(seconds))));
    }
    if let Some(deed) = line.strip_prefix("program ") {
        return Ok(Some(("", Step::Program(deed.trim_end()))));
    }
    let end = line.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let closed = || {
        let (code, reason) = rest.strip_prefix(" is closed ")?.split_once(' ').unwrap_or((&rest[11..], ""));
        Some(Step::IsClosed(code.trim_end().parse().ok()?, reason))
    };
    let connected = || rest.strip_prefix(" connects to ").map(|to| Step::Connects(to.trim_end()));
    let text = |text: &'static str| rest.strip_prefix(text).map(|text| text.strip_prefix(' ').unwrap_or(text));
    let step = match rest.trim_end() {
        _ if name.is_empty() => Err(()),
        " connects" => Ok(Step::Connects("/")),
        " is pinged" => Ok(Step::IsPinged),
        " is dropped" => Ok(Step::IsDropped),
        " sends binary" => Ok(Step::SendsBinary),
        " closes" => Ok(Step::Closes),
        " is cut" => Ok(Step::IsCut),
        " receives nothing" => Ok(Step::HearsNothing),
        _ => text(">")
            .map(Step::Says)
            .or_else(|| text("<").map(Step::Hears))
            .or_else(connected)
            .or_else(closed)
            .ok_or(()),
    };
    step.map(|step| Some((name, step))).map_err(|()| format!("no line of a transcript: {line}"))
}

/// Runs `script` on `stage`; the first line that fails is the error.
pub fn play(script: &str, stage: &mut impl Stage) -> Result<Played, String> {
    let mut bindings = Bindings::default();
    let mut there: Vec<&str> = Vec::new();
    for (number, line) in (1..).zip(script.lines()) {
        let at = |what: String| format!("line {number}: {line}\n    {what}");
        let Some((name, step)) = step(line).map_err(at)? else { continue };
        if !name.is_empty() && matches!(step, Step::Connects(_)) == there.contains(&name) {
            return Err(at(format!("{name} is connected already, or not yet")));
        }
        let is_told =
            matches!(step, Step::Hears(_) | Step::HearsNothing | Step::IsClosed(..) | Step::IsPinged | Step::IsDropped);
        if !is_told {
            stage.settled().map_err(|what| at(format!("before this line: {what}")))?;
        }
        match step {
            Step::Connects(to) => {
                there.push(name);
                match bindings.spell(to).map_err(at)? {
                    Spelling::Text(to) => stage.connect(name, &to),
                    Spelling::NoOtherCase => return Ok(Played::Until(number)),
                }
            }
            Step::Passes(seconds) if stage.pass(seconds) => Ok(()),
            Step::Passes(_) => return Ok(Played::UpToTheClock),
            Step::Program(deed) => {
                if !stage.program(deed).map_err(at)? {
                    return Ok(Played::UpToTheClock);
                }
                Ok(())
            }
            Step::IsPinged => stage.pinged(name),
            Step::IsClosed(code, reason) => {
                there.retain(|other| *other != name);
                let expected = Some((code, reason.to_owned()));
                stage
                    .closed(name)
                    .and_then(|got| (got == expected).then_some(()).ok_or_else(|| format!("it is closed with {got:?}")))
            }
            Step::IsDropped => {
                there.retain(|other| *other != name);
                stage.closed(name).and_then(|got| got.map_or(Ok(()), |got| Err(format!("it is closed with {got:?}"))))
            }
            Step::Says(text) => match bindings.spell(text).map_err(at)? {
                Spelling::Text(text) => stage.say(name, &text),
                Spelling::NoOtherCase => return Ok(Played::Until(number)),
            },
            Step::SendsBinary => stage.send_binary(name),
            Step::Closes | Step::IsCut => {
                stage.silent(name).map_err(at)?;
                there.retain(|other| *other != name);
                if step == Step::Closes { stage.close(name) } else { stage.cut(name) }
            }
            Step::Hears(expected) => stage.hear(name).and_then(|got| bindings.compare(expected, &got)),
            Step::HearsNothing => stage.silent(name),
        }
        .map_err(at)?;
    }
    let at_end = |what: String| format!("at the end: {what}");
    stage.settled().map_err(at_end)?;
    there.iter().try_for_each(|name| stage.silent(name)).map_err(at_end)?;
    Ok(Played::Whole)
}
