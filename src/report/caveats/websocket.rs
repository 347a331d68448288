//! What a connection over WebSocket has to do with the numbers.

use super::{Caveat, Code, say};
use crate::flow::Dialect;
use crate::report::Report;
use crate::report::numbers::StreamNumbers;
use crate::report::websocket::{WebSocketNumbers, advice};
use crate::report::wording::count;

/// The gravest first.
pub(super) fn caveats(report: &Report, judged: Option<&StreamNumbers>) -> Vec<Caveat> {
    let Some(websocket) = &report.websocket else { return Vec::new() };
    let found =
        [lost(websocket), complaint(websocket), silent(report, websocket, judged), unanswered(websocket, judged)];
    found.into_iter().flatten().collect()
}

fn lost(websocket: &WebSocketNumbers) -> Option<Caveat> {
    let lost = websocket.connection_lost.as_ref()?;
    let way_out = match (lost.kind, lost.close_code.map(|code| advice(websocket.dialect, code))) {
        (_, Some(Some(advice))) => advice,
        ("unreachable", _) => {
            "is it the right host and port, does the server run, and does it speak this dialect at this path? A firewall may be in \
             the way"
        }
        ("refused", _) if websocket.dialect == Dialect::Bbx => "give the --code of a room that is there and not full",
        ("refused", _) => "is it this --dialect, and the right room?",
        ("closed", _) => "the server or a box on the way has ended it: look at the server's log",
        _ => "the server or a box on the way does not speak WebSocket as it should, or the network is gone",
    };
    Some(say(Code::ConnectionLost, format!("{}: {way_out}", lost.text)))
}

fn complaint(websocket: &WebSocketNumbers) -> Option<Caveat> {
    let words = websocket.complaint.as_ref()?;
    Some(say(Code::Complaint, format!("the server told of an error, the first time: {words}")))
}

/// Where a connection is there, and nothing comes.
fn silent(report: &Report, websocket: &WebSocketNumbers, judged: Option<&StreamNumbers>) -> Option<Caveat> {
    let stream = judged.filter(|stream| stream.sent > 0 && !stream.is_heard())?;
    if websocket.connection_lost.is_some() || report.interrupted.is_some() {
        return None;
    }
    let WebSocketNumbers { dialect, question, answer, .. } = websocket;
    let other = if report.stray + stream.unmatched > 0 { "something else came" } else { "nothing at all came" };
    let text = format!(
        "the server takes the connection and does not answer {question} by {answer} ({other}): does it speak {}? Others are \
         given by --dialect",
        dialect.name()
    );
    Some(say(Code::NothingCameBack, text))
}

fn unanswered(websocket: &WebSocketNumbers, judged: Option<&StreamNumbers>) -> Option<Caveat> {
    let stream = judged.filter(|stream| stream.is_heard())?;
    let numbered = websocket.dialect.is_numbered();
    if stream.lost == 0 && (numbered || stream.unmatched == 0) {
        return None;
    }
    let mut text = match stream.lost {
        0 => "there were more answers than questions".to_owned(),
        lost => format!(
            "TCP itself loses nothing: the server has not answered {} in time, or not at all, or the connection was over before",
            count(lost, &format!("{} message", websocket.question))
        ),
    };
    if !numbered {
        text.push_str("; an answer of this dialect does not say what it answers, so one that is missing or too many makes all later ");
        text.push_str("round trips wrong");
    }
    Some(say(Code::Unanswered, text))
}
