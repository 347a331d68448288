//! Transcripts: the messages between clients and a signaling server, in order.
//!
//! ```text
//! # A comment.
//! ann connects                                    The client "ann" opens a connection with the path /.
//! ann connects to /ws?x=1                         The client "ann" opens a connection with this path and query.
//! ann> {"type":"ListRooms"}                       The client sends this text message.
//! ann< {"type":"RoomList","data":{"rooms":[]}}    The next message that the client receives must match this JSON.
//! ann sends binary                                The client sends a binary message.
//! ann receives nothing                            No message may be waiting for the client.
//! ann closes bye                                  The client closes its connection with a close frame. The reason may be absent.
//! ann is cut                                      The client's connection is lost.
//! ann is closed 1008 Too much                     The server must have closed the connection with this code and reason.
//! ann is dropped                                  The server must have ended the connection without a close frame.
//! ann is pinged                                   The server must have pinged the client since the clock was last advanced.
//! 30s pass                                        The clock advances by 30 s (in memory only).
//! program creates room 1234 for 2 expiring 60     The embedding application creates a control surface room.
//! ```
//!
//! `$name` in a string is a placeholder for a value that the server chose (see [`super::compare`]). Before a client acts again, all
//! messages that earlier lines caused must be received. No message may be left at the end.

use crate::compare::Bindings;

/// The server that runs a transcript: a hub in memory, or a process with sockets. An `Err` describes the failure in a sentence.
pub trait TranscriptServer {
    fn connect(&mut self, name: &str, to: &str) -> Result<(), String>;
    fn send_text(&mut self, name: &str, text: &str) -> Result<(), String>;
    fn send_binary(&mut self, name: &str) -> Result<(), String>;
    fn close(&mut self, name: &str, _reason: &str) -> Result<(), String> {
        self.cut(name)
    }
    /// The client's connection is lost.
    fn cut(&mut self, name: &str) -> Result<(), String>;
    fn receive(&mut self, name: &str) -> Result<String, String>;
    /// `Err` if a message is waiting for the client.
    fn no_message(&mut self, name: &str) -> Result<(), String>;
    /// The server has closed the client's connection. Returns code and reason, or `None` if the server dropped the connection.
    fn expect_closed(&mut self, name: &str) -> Result<Option<(u16, String)>, String>;
    /// `Err` if the server has not pinged the client since the clock was last advanced.
    fn expect_pinged(&mut self, name: &str) -> Result<(), String> {
        Err(format!("the clock cannot be moved, so {name} is not pinged"))
    }
    /// Advances the clock by this number of seconds. Returns false if this server's clock cannot be advanced.
    fn advance(&mut self, _seconds: u64) -> bool {
        false
    }
    /// The application that embeds the server executes `command`. Returns false if this server does not support it. The commands:
    ///
    /// - `creates room CODE [for MEMBERS [expiring SECONDS]]`
    /// - `closes room CODE`
    /// - `sets NAME VALUE [in CODE]`
    /// - `declares NAME MIN MAX [at VALUE]`
    /// - `shows VALUE… [in CODE]`
    fn program(&mut self, command: &str) -> Result<bool, String>;
    /// Returns `Err` if at least one client is known to have an unread message. Called before each action and at the end of the transcript.
    fn no_messages(&mut self) -> Result<(), String>;
}

/// How far [`run_transcript`] ran a transcript.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    Complete,
    /// Up to a line that advances the clock or runs a command in the embedding application, which this server does not support, or that
    /// spells an id in another letter case, although the assigned id has no letter.
    Partial,
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
    Sends(&'a str),
    SendsBinary,
    Closes(&'a str),
    IsCut,
    Receives(&'a str),
    ReceivesNothing,
}

/// Parses a line into the client's name and the step; `None` for comments and empty lines.
pub fn step(line: &str) -> Result<Option<(&str, Step<'_>)>, String> {
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if let Some(seconds) = line.trim_end().strip_suffix("s pass").and_then(|seconds| seconds.parse().ok()) {
        return Ok(Some(("", Step::Passes(seconds))));
    }
    if let Some(command) = line.strip_prefix("program ") {
        return Ok(Some(("", Step::Program(command.trim_end()))));
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
        " closes" => Ok(Step::Closes("")),
        " is cut" => Ok(Step::IsCut),
        " receives nothing" => Ok(Step::ReceivesNothing),
        _ => text(">")
            .map(Step::Sends)
            .or_else(|| text("<").map(Step::Receives))
            .or_else(connected)
            .or_else(closed)
            .or_else(|| rest.strip_prefix(" closes ").map(Step::Closes))
            .ok_or(()),
    };
    step.map(|step| Some((name, step))).map_err(|()| format!("invalid transcript line: {line}"))
}

/// Runs `transcript` on `server`. The error describes the first line that fails.
pub fn run_transcript(transcript: &str, server: &mut impl TranscriptServer) -> Result<Progress, String> {
    let mut bindings = Bindings::default();
    let mut connected_names: Vec<&str> = Vec::new();
    for (number, line) in (1..).zip(transcript.lines()) {
        let at = |what: String| format!("line {number}: {line}\n    {what}");
        let Some((name, step)) = step(line).map_err(at)? else { continue };
        if !name.is_empty() && matches!(step, Step::Connects(_)) == connected_names.contains(&name) {
            return Err(at(format!("{name} is connected already, or not yet")));
        }
        let is_received = matches!(
            step,
            Step::Receives(_) | Step::ReceivesNothing | Step::IsClosed(..) | Step::IsPinged | Step::IsDropped
        );
        if !is_received {
            server.no_messages().map_err(|what| at(format!("before this line: {what}")))?;
        }
        match step {
            Step::Connects(to) => {
                connected_names.push(name);
                let Some(to) = bindings.spell(to).map_err(at)? else { return Ok(Progress::Partial) };
                server.connect(name, &to)
            }
            Step::Passes(seconds) if server.advance(seconds) => Ok(()),
            Step::Program(command) if server.program(command).map_err(at)? => Ok(()),
            Step::Passes(_) | Step::Program(_) => return Ok(Progress::Partial),
            Step::IsPinged => server.expect_pinged(name),
            Step::IsClosed(..) | Step::IsDropped => {
                connected_names.retain(|other| *other != name);
                let expected =
                    if let Step::IsClosed(code, reason) = step { Some((code, reason.to_owned())) } else { None };
                let got = server.expect_closed(name).map_err(at)?;
                if got == expected { Ok(()) } else { Err(format!("it is closed with {got:?}")) }
            }
            Step::Sends(text) => {
                let Some(text) = bindings.spell(text).map_err(at)? else { return Ok(Progress::Partial) };
                server.send_text(name, &text)
            }
            Step::SendsBinary => server.send_binary(name),
            Step::Closes(_) | Step::IsCut => {
                server.no_message(name).map_err(at)?;
                connected_names.retain(|other| *other != name);
                if let Step::Closes(reason) = step { server.close(name, reason) } else { server.cut(name) }
            }
            Step::Receives(expected) => server.receive(name).and_then(|got| bindings.compare(expected, &got)),
            Step::ReceivesNothing => server.no_message(name),
        }
        .map_err(at)?;
    }
    let at_end = |what: String| format!("at the end: {what}");
    server.no_messages().map_err(at_end)?;
    connected_names.iter().try_for_each(|name| server.no_message(name)).map_err(at_end)?;
    Ok(Progress::Complete)
}
