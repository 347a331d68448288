//! The page: complete without script and style sheet, escaped, with charts only of data.

use jamjam_core::audio::quality::{Analyzer, PacketFormat};
use jamjam_core::stats::StreamStats;
use jamjam_measure::check::{CheckReport, CheckedSource, Finding, Severity};
use jamjam_measure::client::{AudioPicture, AudioResults, RunResults};
use jamjam_measure::document::Document;
use jamjam_measure::report::Report;
use jamjam_measure::report::audio_section::{MAX_AUDIO_BYTES, sides};
use jamjam_measure::report::limits::Limits;
use jamjam_measure::report::targets::TargetsReport;
use jamjam_measure::waveform::Waveform;

use super::json::runs;
use super::runs::{MS, probe, report, send, stream};

fn page(document: &Document) -> String {
    document.html("", "0")
}

/// The text of an HTML page is well-formed XML but for the doctype and a few elements without an end.
fn assert_well_formed(page: &str) {
    let mut xml = page.strip_prefix("<!DOCTYPE html>\n").expect("a doctype").to_owned();
    for name in ["meta", "link", "br"] {
        let parts: Vec<&str> = xml.split(&format!("<{name} ")).collect();
        let closed = parts.iter().enumerate().map(|(index, part)| match part.split_once('>') {
            Some((start, rest)) if index > 0 => format!("<{name} {start}/>{rest}"),
            _ => (*part).to_owned(),
        });
        xml = closed.collect();
    }
    let xml = xml.replace(" controls", " controls=\"\"");
    roxmltree::Document::parse(&xml).unwrap_or_else(|error| panic!("{error}: {page}"));
}

#[test]
fn page_of_every_run_has_all_its_values_and_no_script() {
    for (name, run) in runs() {
        let document = report(&run).document();
        let page = page(&document);
        assert_well_formed(&page);
        assert!(!page.contains("<script") && !page.contains(" src=\"http"), "{name}");
        for table in document.tables() {
            for (index, column) in table.columns.iter().enumerate() {
                for value in table.rows.iter().map(|row| row.values[index]) {
                    let text = jamjam_core::sanitize::escape_html(&column.column.format(value));
                    let is_problem = format!("{:?}", column.column.place) == "problem";
                    assert!(is_problem || value.is_null() || page.contains(&text), "{name}: {} {text}", column.label);
                }
            }
        }
    }
}

#[test]
fn every_external_text_is_escaped() {
    let evil = "<img src=x onerror=1>&\"'";
    let mut run = RunResults { target: evil.to_owned(), ..probe(stream(StreamStats::new(), [MS; 3])) };
    (run.origin.command_line, run.origin.host_name) = (evil.to_owned(), Some(evil.to_owned()));
    let mut document = report(&run).document();
    document.head.abort(evil.to_owned());
    let page = page(&document);
    assert_well_formed(&page);
    assert!(!page.contains("<img") && page.contains("&lt;img src=x onerror=1&gt;"), "{page}");
    assert!(page.contains("<title>ABORTED: "), "{page}");
}

#[test]
fn charts_are_drawn_only_of_data_and_readable_without_a_style_sheet() {
    let silent = page(&report(&probe(super::runs::all_lost())).document());
    assert!(!silent.contains("Round trips over time"), "{silent}");
    let document = report(&probe(stream(StreamStats::new(), (0..1_000).map(|n| MS + n)))).document();
    let drawn = page(&document);
    assert!(drawn.contains("Histogram of LATENCY_PING round-trip times") && drawn.contains("<svg "), "{drawn}");
    assert!(drawn.contains(" fill=\"") && drawn.contains(" stroke=\""), "attributes, not classes");
}

#[test]
fn page_with_audio_has_waveforms_players_gaps_and_what_they_lack() {
    let mut waveform = Waveform::new(48_000, 1, 128, MAX_AUDIO_BYTES);
    let mut analyzer = Analyzer::new(PacketFormat { sample_rate: 48_000, channels: 1, frame_samples: 128 });
    for index in 0..1_000 {
        waveform.on_sent(index, &[0.5; 128]);
        analyzer.on_sent(index, &[0.5; 128]);
    }
    for index in [10, 11, 500] {
        waveform.on_lost(index);
        analyzer.on_lost(index);
    }
    let stats = stream(StreamStats::with_rtt_baseline(), (0..1_000).map(|n| 50 * MS + n));
    let shape = AudioResults { sample_rate: 48_000, channels: 1, frame_samples: 128, ..AudioResults::default() };
    let quality = Some(analyzer.finish());
    let report = report(&send(AudioResults { stats, quality, sent_samples: 128_000, ..shape }));
    let picture = AudioPicture { name: "<x>".to_owned(), waveform, missing_packets: 2 };
    let page = page(&Document { audio: sides(&picture), ..report.document() });
    assert_well_formed(&page);
    for text in ["of &lt;x&gt; (without 2 packets, ", "data:audio/wav;base64,", "Returned, without the delay"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(page.len() < 2_000_000, "{}", page.len());
}

#[test]
fn page_of_a_comparison_contains_the_report_of_each_target_folded() {
    let run = |target: &str| {
        let run = RunResults { target: target.to_owned(), ..probe(stream(StreamStats::new(), [MS; 200])) };
        (run, None)
    };
    let page = page(&TargetsReport::new(vec![run("a.example"), run("b.example")], &Limits::default()).document());
    assert_well_formed(&page);
    for target in ["a.example", "b.example"] {
        assert!(page.contains(&format!("<details><summary>measured: <bdi>{target}</bdi></summary>")), "{page}");
    }
}

#[test]
fn an_hour_of_intervals_stays_below_a_megabyte() {
    let mut stats = stream(StreamStats::new(), [MS; 100]);
    for second in 0..3_600 {
        let sent_at = jamjam_core::time::Time::from_millis(second * 1_000);
        stats.on_settled(sent_at, jamjam_core::stats::FinalOutcome::Returned { rtt: MS });
    }
    let page = page(&Report::new(&probe(stats), &Limits::default()).document());
    assert!(page.len() < 1_000_000, "{}", page.len());
}

#[test]
fn what_exceeded_a_limit_is_first_on_the_page() {
    let source = |number| {
        let (severity, message) = (Severity::Error, "lost".to_owned());
        let finding = Finding { rule: "loss", severity, message, count: 1, unit: "packets", section: "", first: None };
        let findings = if number == 13 { vec![finding] } else { Vec::new() };
        let (name, facts) = (format!("source {number}"), "sent AUDIO".to_owned());
        CheckedSource { name, facts, took_part: true, rules: &["loss"], findings, ..CheckedSource::default() }
    };
    let report = CheckReport { sources: (1..=13).map(source).collect(), ..CheckReport::default() };
    let page = page(&report.document(Severity::Error, 1, None));
    let [first, other] = [">source 13</th>", ">source 1</th>"].map(|text| page.find(text).expect(text));
    assert!(first < other, "{page}");
    let judgment = page.split("<th scope=\"row\">").nth(1).expect("a judgment");
    assert!(judgment.starts_with("<code>loss</code> source 13</th>"), "{judgment}");
}
