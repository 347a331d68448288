//! A check as one HTML page that loads no other file and has no script: the verdict, and for each client its findings and the course of its
//! AUDIO.

use std::fmt::Write;

use jamjam_core::sanitize::escape_html;

use super::documents::{TITLE, has_no_audio, not_judged, sentence};
use super::history::{HistoryInterval, SourceHistory};
use super::{CheckResult, CheckedSource, CommandResult, Finding};
use crate::report::html::axis::{Axis, HEIGHT, MAX_DRAWN, band, figure};
use crate::report::html::{STYLE, verdict_class};

/// Only the first clients have charts, so that a browser can show the page.
const MAX_CHARTS: usize = 50;

impl CheckResult {
    /// A page that loads no other file. `style` is the style sheet that all pages share.
    pub fn html(&self, style: &str) -> String {
        let class = verdict_class(self.verdict.word());
        let verdict = escape_html(&self.verdict());
        let command =
            |command: &CommandResult| format!("<pre class=\"command\">{}</pre>\n", escape_html(&command.command));
        let command = self.command.as_ref().map(command).unwrap_or_default();
        let sections: String =
            self.report.sources.iter().enumerate().map(|(index, source)| section(index, source)).collect();
        let note = self.note().map(|text| format!("<p>{}</p>\n", escape_html(&text))).unwrap_or_default();
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{TITLE}</title><style>{style}{STYLE}</style></head>\n<body><h1>{TITLE}</h1>\n\
             <p class=\"verdict {class}\"><strong>{verdict}</strong></p>\n{command}<main>\n{sections}{note}</main></body></html>\n"
        )
    }
}

fn section(index: usize, source: &CheckedSource) -> String {
    let CheckedSource { name, facts, findings, history, .. } = source;
    let (name, facts) = (escape_html(name), escape_html(facts));
    let not_judged = not_judged(source).map(|text| format!("<li>{}</li>\n", escape_html(&text)));
    let items: String = findings.iter().map(item).chain(not_judged).collect();
    let items = if items.is_empty() && !has_no_audio(source) { "<li>no findings</li>" } else { &items };
    let charts = if index < MAX_CHARTS { charts(index, history, findings) } else { String::new() };
    format!("<section><h2>{name}</h2>\n<p class=\"quiet\">{facts}</p>\n<ul>{items}</ul>\n{charts}</section>\n")
}

fn item(finding: &Finding) -> String {
    let first = finding.first.map(|first| {
        let sequence = if first.packet == "datagram" { String::new() } else { format!(" {}", first.sequence) };
        format!("; the first one is {}{sequence} at {:.3} s", first.packet, first.at_s)
    });
    format!("<li>{}{}</li>\n", escape_html(&sentence(finding)), first.unwrap_or_default())
}

/// What a person looks for: packets per second, their spacing, and the level.
fn charts(index: usize, history: &SourceHistory, findings: &[Finding]) -> String {
    let SourceHistory { interval_s, intervals, .. } = history;
    if intervals.is_empty() {
        return String::new();
    }
    let width = intervals.len() as f64;
    let end = Axis::run_time(interval_s * intervals.len() as u64);
    let firsts = findings.iter().filter_map(|finding| finding.first);
    let marks = firsts.map(|first| format!("M{:.3} 0v{HEIGHT}", first.at_s / *interval_s as f64));
    let marks: String = marks.collect();
    let chart = |name: &str, caption: &str, axis: &Axis, drawing: &str| {
        let id = format!("{name}-{index}");
        let lines = axis.horizontal_lines(width);
        let drawing = format!("{lines}{drawing}<path class=\"mark\" d=\"{marks}\"/>");
        figure(&id, caption, "", &axis.plot("plot", width, &id, &drawing), &end)
    };
    let area = |axis: &Axis, value: &dyn Fn(usize) -> Option<f64>| {
        let edges: Vec<_> = (0..intervals.len()).map(|index| Some((axis.y(value(index)?), HEIGHT))).collect();
        format!("<path class=\"bar trips\" d=\"{}\"/>", band(&edges, |edges| *edges))
    };
    let note = if marks.is_empty() { "" } else { " A vertical line is the first packet of a finding." };
    let seconds = if *interval_s == 1 { "a second".to_owned() } else { format!("{interval_s} s") };

    let rate = |index| history.packet_rate(index);
    let most = (0..intervals.len()).filter_map(rate).fold(0.0, f64::max);
    let axis = Axis::counts(most.ceil() as u64);
    let caption = format!("<strong>Packets per second</strong>, of AUDIO, in steps of {seconds}.{note}");
    let mut text = chart("rate", &caption, &axis, &area(&axis, &rate));

    let spacings = || intervals.iter().filter_map(|interval| interval.spacing_us);
    let min = spacings().map(|(min, _)| min).reduce(f32::min);
    let max = spacings().map(|(_, max)| max).reduce(f32::max);
    let mean = |index| rate(index).filter(|rate| *rate > 0.0).map(|rate| 1e6 / rate);
    let typical = (0..intervals.len()).filter_map(mean).reduce(f64::min);
    if let (Some(min), Some(max), Some(typical)) = (min, max, typical) {
        let axis = Axis::times(min.into(), typical, max.into());
        let edges =
            |interval: &HistoryInterval| interval.spacing_us.map(|(min, max)| (axis.y(max.into()), axis.y(min.into())));
        let mut drawing = format!("<path class=\"band\" d=\"{}\"/>", band(intervals, edges));
        let means: Vec<_> = (0..intervals.len()).map(|index| mean(index).map(|mean| axis.y(mean))).collect();
        // Writing to a string cannot fail.
        _ = write!(drawing, "<path class=\"line\" d=\"{}\"/>", band(&means, |mean| mean.map(|y| (y, y))));
        let scale = if axis.is_logarithmic { " The scale is logarithmic." } else { "" };
        let caption = format!(
            "<strong>Time between packets</strong> as they arrive: the line is the mean, the area reaches from the shortest to the longest.{scale}"
        );
        text += &chart("spacing", &caption, &axis, &drawing);
    }

    let level = |index: usize| {
        Some(20.0 * f64::from(intervals[index].peak.min(MAX_DRAWN)).log10()).filter(|level| level.is_finite())
    };
    let loudest = (0..intervals.len()).filter_map(level).fold(0.0, f64::max);
    let axis = Axis::decibels(loudest);
    let caption = "<strong>Peak level</strong> in dBFS: 0 is full scale, 20 and above are the top. Silence is empty.";
    text += &chart("level", caption, &axis, &area(&axis, &level));
    format!("<div class=\"pair trio\">{text}</div>\n")
}
