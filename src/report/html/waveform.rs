//! A waveform as the inside of an SVG: how far the samples of each column reach, with bands where something is missing.

use std::fmt::Write;

use crate::audio::picture::{Column, Reach, Side};

/// Height of the coordinates; a column is one wide.
const HEIGHT: f32 = 200.0;
/// Where the wave is: above it is room for the bands, which it would hide where only a part of a column is missing.
const TOP: f32 = 20.0;
const BOTTOM: f32 = HEIGHT - 4.0;
const MIDDLE: f32 = f32::midpoint(TOP, BOTTOM);
/// Least thickness: silence is a line, and nothing at all is none.
const THIN: f32 = 2.0;

/// From the attributes of the element on, without its end. `scale` is the sample that reaches the edge.
pub(super) fn svg(columns: &[Column], width: u64, side: Side, scale: f32) -> String {
    let n = columns.len();
    let mut text = format!(
        "viewBox=\"0 0 {n} {HEIGHT}\" preserveAspectRatio=\"none\"><line class=\"middle\" x1=\"0\" x2=\"{n}\" y1=\"{MIDDLE}\" y2=\"{MIDDLE}\"/>"
    );
    bands(&mut text, columns, width);
    let reach = |column: &Column| match side {
        Side::Sent => column.sent,
        Side::Returned => column.returned,
    };
    let heard: Vec<Reach> = columns.iter().map(reach).collect();
    text += "<path class=\"wave\" d=\"";
    let mut at = 0;
    for run in heard.chunk_by(|one, next| one.is_any() == next.is_any()) {
        if run[0].is_any() {
            wave(&mut text, at, run, scale);
        }
        at += run.len();
    }
    text + "\"/>"
}

/// The outline of columns in a row, there along the top and back along the bottom.
fn wave(text: &mut String, start: usize, run: &[Reach], scale: f32) {
    let y = |sample: f32| MIDDLE - (sample / scale).clamp(-1.0, 1.0) * (BOTTOM - MIDDLE);
    let edges = run.iter().map(|reach| {
        let (top, bottom) = (y(reach.most), y(reach.least));
        let lack = (THIN - (bottom - top)).max(0.0) / 2.0;
        (top - lack, bottom + lack)
    });
    // Writing to a string cannot fail.
    _ = write!(text, "M{start} {MIDDLE}");
    for (top, _) in edges.clone() {
        _ = write!(text, "V{top:.1}h1");
    }
    for (_, bottom) in edges.rev() {
        _ = write!(text, "V{bottom:.1}h-1");
    }
    text.push('z');
}

/// Bands where something is missing, the fainter the less of a column is.
fn bands(text: &mut String, columns: &[Column], width: u64) {
    let degree = |column: &Column| (4 * column.missing).div_ceil(width.max(1)).min(4);
    let mut at = 0;
    for run in columns.chunk_by(|one, next| degree(one) == degree(next)) {
        let class = match degree(&run[0]) {
            0 => None,
            1 => Some("gap few"),
            2 => Some("gap some"),
            3 => Some("gap most"),
            _ => Some("gap"),
        };
        if let Some(class) = class {
            let wide = run.len();
            _ = write!(text, "<rect class=\"{class}\" x=\"{at}\" y=\"0\" width=\"{wide}\" height=\"{HEIGHT}\"/>");
        }
        at += run.len();
    }
}
