//! A run over MOQT: what was spoken, how long the set-up took, and what became of groups.

use super::row;
use crate::report::moqt::MoqtNumbers;
use crate::report::wording::{count, time};

/// The line below the heading.
pub(super) fn heading(moqt: &MoqtNumbers) -> String {
    let flavour = moqt.flavour.map_or_else(String::new, |flavour| format!(", the {flavour}'s flavour"));
    let frames = count(moqt.frames_per_group, "frame");
    format!("MOQT over {}{flavour}: {}; {frames} a group\n", moqt.below(), moqt.track)
}

/// The rows beside the table.
pub(super) fn rows(text: &mut String, moqt: &MoqtNumbers) {
    if moqt.groups_sent > 0 {
        let known = [
            (moqt.groups_in_flight, "in flight"),
            (moqt.groups_declined, "given up by the server"),
            (moqt.groups_unsent, "not sent to their end"),
        ];
        let more = known.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {n} {what}"));
        let missing = match moqt.frames_missing {
            0 => String::new(),
            n => format!("; {} missing in other groups", count(n, "frame")),
        };
        let MoqtNumbers { groups_sent, groups_returned, groups_lost, .. } = moqt;
        let more = more.collect::<String>();
        let groups = format!("{groups_sent} sent, {groups_returned} returned, {groups_lost} lost{more}{missing}");
        row(text, "groups", &groups);
    }
    if let Some(parts) = set_up(moqt) {
        row(text, "connecting", &parts);
    }
}

/// How long the parts of the set-up took, as far as it came to them.
pub(super) fn set_up(moqt: &MoqtNumbers) -> Option<String> {
    let parts = [
        ("name", moqt.name_ms),
        ("QUIC", moqt.quic_ms),
        ("CONNECT", moqt.connect_ms),
        ("set-up", moqt.session_ms),
        ("subscription", moqt.subscribe_ms),
    ];
    let parts: Vec<String> =
        parts.iter().filter_map(|(name, ms)| Some(format!("{name} {}", time((*ms)? * 1e3)))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
