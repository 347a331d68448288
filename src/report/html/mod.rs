//! The report of a run of `send` as one page that a browser shows without loading anything: verdict, the sound of both sides to look at
//! and to listen to, figures and notes.
//!
//! Whatever comes from outside is text in it and nothing else: every piece is escaped where it is written, and what was filled
//! into the template is not read as a template again.

mod sound;
mod waveform;

use std::fmt::Write;

use super::document::Report;
use super::{text, wording};
use crate::rooms::harmless::acts;

pub use sound::Sound;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");

/// The page is never longer than this, in bytes: the sound stays out of it where it would be.
pub const MOST_BYTES: usize = 5_000_000;

/// More bytes of sound than this a side are never in a page: it has two, and writes three bytes as four letters.
pub const MOST_SOUND: usize = MOST_BYTES / 2 / 4 * 3;

/// The whole page. `broken` is what could not be used to the end (a socket, a file), if anything; `house_style` is what all pages of
/// ours have in common, before what is this page's own.
pub fn page(report: &Report, broken: Option<&str>, sound: &Sound<'_>, house_style: &str) -> String {
    let filled = |audible| filled(report, broken, sound.section(report, audible), house_style);
    let whole = filled(true);
    if whole.len() <= MOST_BYTES { whole } else { filled(false) }
}

fn filled(report: &Report, broken: Option<&str>, mut sound: String, house_style: &str) -> String {
    let (word, cut) = wording::outcome(report, broken);
    let outcome = match word {
        "PASSED" => "passed",
        "FAILED" => "failed",
        _ => "cut",
    };
    fill(PAGE, |name| match name {
        "word" => word.to_owned(),
        "command" => wording::command(report.command).to_owned(),
        "target" => escaped(&report.target),
        "style" => [house_style, STYLE].concat(),
        "outcome" => outcome.to_owned(),
        "why" => prose(&format!("{cut}{}", text::why(report))),
        "facts" => facts(report),
        "sound" => std::mem::take(&mut sound),
        "limits" => limits(report),
        "figures" => figures(report),
        "notes" => notes(report),
        "report" => escaped(&text::summary(report, false)),
        "version" => escaped(report.tool_version),
        _ => String::new(),
    })
}

/// A template in which each name in braces is replaced once.
fn fill(template: &str, mut with: impl FnMut(&str) -> String) -> String {
    let mut parts = template.split('{');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        text += &with(name);
        text += rest;
    }
    text
}

fn facts(report: &Report) -> String {
    let started = wording::started(report).map(|at| format!("Started {at}, ")).unwrap_or_default();
    format!("{started}took {}.", wording::time(report.duration_ms * 1e3))
}

fn limits(report: &Report) -> String {
    if report.limits.is_empty() {
        return String::new();
    }
    let mut table = "<section aria-labelledby=\"limits\"><h2 id=\"limits\">Limits</h2>\n<div class=\"wide\" role=\"region\" \
                     aria-labelledby=\"limits\" tabindex=\"0\"><table><thead><tr><th scope=\"col\" class=\"words\">limit</th><th scope=\"col\">allowed</th>\
                     <th scope=\"col\">measured</th><th scope=\"col\" class=\"words\">it was</th></tr></thead><tbody>\n"
        .to_owned();
    for judgement in &report.limits {
        let (option, note) = (judgement.limit.option(), escaped(&wording::note(judgement)));
        let [allowed, found] =
            [wording::limit(judgement, judgement.asked), wording::found(judgement)].map(|it| escaped(&it));
        let kept = if judgement.passed { "kept" } else { "<strong>broken</strong>" };
        // Writing to a string cannot fail.
        _ = writeln!(
            table,
            "<tr><th scope=\"row\"><code>{option}</code></th><td>{allowed}</td><td>{found}</td><td class=\"words\">{kept}{note}</td></tr>"
        );
    }
    table + "</tbody></table></div></section>"
}

fn figures(report: &Report) -> String {
    let rows = text::rows(report);
    if rows.is_empty() {
        return "<p>Nothing was counted.</p>".to_owned();
    }
    let mut table =
        "<div class=\"wide\" role=\"region\" aria-labelledby=\"figures\" tabindex=\"0\"><table><thead><tr><td></td>"
            .to_owned();
    for (kind, _) in report.streams.iter() {
        _ = write!(table, "<th scope=\"col\">{}</th>", escaped(report.names(kind).sent));
    }
    table += "</tr></thead><tbody>\n";
    for (label, cells) in rows {
        _ = write!(table, "<tr><th scope=\"row\">{}</th>", escaped(label));
        for cell in cells {
            _ = write!(table, "<td>{}</td>", escaped(&cell));
        }
        table += "</tr>\n";
    }
    table + "</tbody></table></div>"
}

fn notes(report: &Report) -> String {
    if report.caveats.is_empty() {
        return String::new();
    }
    let mut list = "<section aria-labelledby=\"notes\"><h2 id=\"notes\">Notes</h2><ul>\n".to_owned();
    for caveat in &report.caveats {
        _ = write!(list, "<li>{}", prose(&caveat.text));
        for (at, point) in caveat.points.iter().enumerate() {
            _ = write!(list, "{}<li>{}</li>", if at == 0 { "<ol>" } else { "" }, prose(point));
        }
        list += if caveat.points.is_empty() { "</li>\n" } else { "</ol></li>\n" };
    }
    list + "</ul></section>"
}

/// Text that means nothing but itself, also between quotes. What acts on a terminal or turns the direction of writing is replaced, but for ends of lines.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push('\n'),
            letter if acts(letter) => escaped.push(char::REPLACEMENT_CHARACTER),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Our own sentences, in which backticks mark what can be typed.
fn prose(text: &str) -> String {
    let parts = text.split('`').map(escaped).enumerate();
    parts.map(|(at, part)| if at % 2 == 0 { part } else { format!("<code>{part}</code>") }).collect()
}
