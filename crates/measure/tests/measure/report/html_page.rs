//! The HTML report: charts, escaping, structure and size. Expected positions are computed by hand.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jamjam_core::audio::waveform::Waveform;
use jamjam_core::stats::{FinalOutcome, StreamStats};
use jamjam_core::time::Time;
use jamjam_measure::client::{
    AudioPicture, AudioResults, CaptureResults, LossReport, PlaybackResults, RunOrigin, RunResults, StopSignal,
    WebSocketResults,
};
use jamjam_measure::report::Report;
use jamjam_measure::report::html::page;
use jamjam_measure::report::limits::Limits;
use jamjam_measure::report::time_series::{IntervalFigures, TimeSeries, WorstSeconds};
use jamjam_signaling::Dialect;
use sha2::{Digest, Sha256};
use test_support::snapshot;

use super::html::{render, run_without};
use super::json;
use super::runs::{self, MS, all_lost, between, probe, report, send, stream};

/// Compares a page with a snapshot, without its style, its script, its players and the report as text.
fn assert_page(snapshot: &str, page: &str) {
    let mut shown = page.to_owned();
    for (start, end) in
        [("<style>", "</style>"), ("<script>", "</script>"), ("<pre", "</pre>"), ("'sha256-", "'"), (";base64,", "\"")]
    {
        for hidden in between(page, start, end) {
            shown = shown.replace(&format!("{start}{hidden}{end}"), &format!("{start}…{end}"));
        }
    }
    snapshot::assert_matches(&format!("measure/html/{snapshot}"), &shown);
}

/// The page of a run without limits, errors and audio.
fn plain(run: &RunResults) -> String {
    page(&report(run), None, None, "", "0")
}

/// An interval of two seconds with 20 sent packets. Returned packets took exactly 4 ms.
fn interval(index: u64, lost: u64, lost_upstream: Option<u64>) -> IntervalFigures {
    let lost_downstream = lost_upstream.map(|upstream| lost - upstream);
    let interval = runs::interval(index * 2, 20, 20 - lost, (lost < 20).then_some(4_000.0));
    IntervalFigures { lost_upstream, lost_downstream, burst_max: lost.min(7), ..interval }
}

/// The page of a run with these intervals.
fn page_of(intervals: Vec<IntervalFigures>, worst: Option<WorstSeconds>) -> String {
    let mut report = report(&probe(stream(StreamStats::new(), [4 * MS; 100])));
    report.time_series = Some(TimeSeries { interval_s: 2, intervals, worst_ten_seconds: worst });
    page(&report, None, None, "", "0")
}

#[test]
fn charts_of_losses_and_silence_match_their_snapshots() {
    // The height of a mark is the square root of its share of the largest loss (16), times 130, plus 70, in a drawing that is 200 high.
    let lost = [(0, Some(0)), (4, Some(4)), (4, Some(1)), (0, Some(0)), (16, None)];
    let intervals = (0..).zip(lost).map(|(index, (lost, upstream))| interval(index, lost, upstream)).collect();
    assert_page("loss", &page_of(intervals, None));
    // The line of the round trips has two parts, and the axis ends at the only round trip, 4 ms.
    let intervals = (0..).zip([0, 20, 20, 0, 0]).map(|(index, lost)| interval(index, lost, None)).collect();
    let worst = WorstSeconds { start_s: 2, duration_s: 4, loss_ratio: 1.0, rtt_p99_us: None };
    assert_page("silence", &page_of(intervals, Some(worst)));
}

#[test]
fn missing_chart_is_replaced_by_a_sentence() {
    let one = page_of(vec![interval(0, 0, None)], None);
    assert!(one.contains("No packet was lost."));
    assert!(one.contains("Each point stands for the packets sent in 2 seconds."));
    let outcome = |outcome| probe(super::time_series::stream(StreamStats::new(), 100, move |_| outcome));
    let no_echo = RunResults { replies_expected: false, ..outcome(FinalOutcome::InFlight) };
    assert!(plain(&outcome(FinalOutcome::Lost)).contains("because no round trip is known"));
    assert!(plain(&no_echo).contains("because no replies were expected"));
    assert!(!plain(&probe(all_lost())).contains("<div id=\"course\">"));
}

#[test]
fn page_of_a_run_with_a_limit_and_an_error_matches_its_snapshot() {
    // 90 round trips of 1 ms, one of 5 ms, 8 of 5.5 ms and one of 40 ms. The histogram ends after the p99, which is in the last bar. One of 100 packets is
    // 39 ms late, so the smallest sufficient depth has 16 packets of 2.667 ms. Without a buffer, 10 % are late, and the axis ends at 10 %.
    let times = [MS; 90].into_iter().chain([5 * MS]).chain([5_500_000; 8]).chain([40 * MS]);
    let origin = RunOrigin { command_line: "jamjam-dev probe h".to_owned(), host_name: Some("studio".to_owned()) };
    let run = probe(StreamStats { sent: 102, lost: 2, ..stream(StreamStats::new(), times) });
    let run = RunResults { origin, started_unix_ms: 1_700_000_000_000, ..run };
    let report = Report::new(&run, &Limits { max_loss: Some(0.001), ..Limits::default() });
    // The page names no folder.
    let error = Some("cannot write /home/ann/x.wav: disk full");
    assert_page("limit", &page(&report, error, None, "", "1.2, commit ab12"));
    // 100 packets of 128 samples fill 1,600 columns of 8 samples. Each packet fills 16 columns. 128 samples are 2.6667 ms. The last losses are
    // reported out of order. The peak is half of full scale.
    let (run, waveform) = run_without(100, 128, [0, 11, 10, 12, 39, 99, 41, 40]);
    assert_page("gaps", &render(&run, waveform));
    // 25 packets fill 1,600 columns of two samples, one more short packet needs 801 columns of four. Two of the last four samples are missing,
    // which last 41.67 µs; the report uses whole microseconds.
    let (run, waveform) = run_without(26, 2, [25]);
    assert_eq!((waveform.columns[800].lost_samples, waveform.columns.len()), (2, 801));
    let page = render(&run, waveform);
    assert!(page.contains("1 gap, 42.0 µs in total") && page.contains("<rect class=\"gap some\""));
}

#[test]
fn every_external_text_is_escaped() {
    let hostile = "</title><script>alert(1)</script>\"' onload=x {style} {report} &amp; \u{202e}gnp.\u{7} `code`";
    let mut waveform = Waveform::new(48_000, 1, 128, 0);
    waveform.on_sent(0, &[0.5; 128]);
    let text = || hostile.to_owned();
    let mut run = send(AudioResults {
        stats: stream(StreamStats::with_rtt_baseline(), [50 * MS; 3]),
        sample_rate: 48_000,
        channels: 1,
        frame_samples: 128,
        capture: Some(CaptureResults { device: text(), failure: Some(text()), ..CaptureResults::default() }),
        playback: Some(PlaybackResults { device: text(), failure: Some(text()), ..PlaybackResults::default() }),
        ..AudioResults::default()
    });
    (run.target, run.origin) = (text(), RunOrigin { command_line: text(), host_name: Some(text()) });
    run.websocket =
        Some(WebSocketResults { server_error: Some(text()), ..WebSocketResults::new(Dialect::ControlSurface) });
    let audio = AudioPicture { name: text(), waveform, missing_packets: 3 };
    let page = page(&report(&run), Some(hostile), Some(&audio), "a {}", "0");
    let escaped = "&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39; onload=x {style} {report} &amp;amp; \u{fffd}gnp.\u{fffd} `code`";
    assert!(page.contains(&format!("<title>ABORTED: send to {escaped}</title>")));
    assert!(page.contains(&format!("<h1>send to <bdi>{escaped}</bdi></h1>")));
    assert!(page.contains(&format!("<p><bdi>{escaped}</bdi>: 0.003 s")));
    assert!(page.contains(&format!("<dd><code>{escaped}</code></dd>")));
    assert!(page.contains(&format!(" on <bdi>{escaped}</bdi>, took ")));
    assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (1, 1));
    assert!(!page.contains('\u{202e}') && !page.contains('\u{7}'));
    assert_eq!(page.matches("<style>").count(), 1);
    assert!(page.contains("the waveforms and players lack 3 packets"));
}

#[test]
fn policy_allows_only_the_script_of_the_page_and_nothing_is_loaded() {
    let page = plain(&probe(stream(StreamStats::new(), [MS; 10])));
    let script = between(&page, "<script>", "</script>")[0];
    let policy = format!(
        "content=\"default-src 'none'; script-src 'sha256-{}'; style-src 'unsafe-inline'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'\"",
        STANDARD.encode(Sha256::digest(script))
    );
    assert!(page.contains(&policy), "{policy}");
    let addresses: Vec<&str> =
        between(&page, " src=\"", ":").into_iter().chain(between(&page, " href=\"", ":")).collect();
    assert_eq!(addresses, ["data"]);
}

#[test]
fn two_hours_of_5_ms_packets_stay_below_1_mb() {
    // A run with bursts of loss and stalls in many seconds, so that every chart has many points.
    let outcome = |n: u64| match n * 2_654_435_761 % 4_294_967_296 / 4_096 % 1_000 {
        0..30 => FinalOutcome::Lost,
        noise => FinalOutcome::Returned { rtt: 12_345_678 + noise.cast_signed() * 54_321 },
    };
    let mut ping = StreamStats::new();
    for n in 0..1_440_000 {
        let sent_at = Time::from_nanos(7 + n * 5_000_000);
        ping.on_sent(sent_at);
        if let FinalOutcome::Returned { rtt } = outcome(n) {
            ping.on_return(sent_at, rtt);
        }
        ping.on_settled(sent_at, outcome(n));
    }
    let run = RunResults { loss_report: Some(LossReport::default()), ..probe(ping) };
    let page = plain(&run);
    assert_eq!(between(&page, "<table id=\"intervals\">", "</table>")[0].matches("<tr>").count(), 1 + 450);
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
}

#[test]
fn page_is_well_formed_and_every_label_reference_exists() {
    let mut waveform = Waveform::new(48_000, 1, 128, 1_000);
    waveform.on_sent(0, &[f32::NAN; 128]);
    waveform.on_sent(1, &[f32::INFINITY; 128]);
    waveform.on_returned(1, &[-0.25; 128]);
    waveform.on_lost(0);
    let audio = AudioPicture { name: "x".to_owned(), waveform, missing_packets: 0 };
    let limits = Limits { max_loss: Some(0.0), ..Limits::default() };
    for (name, mut run) in json::runs() {
        run.interrupted = Some(StopSignal::Interrupt);
        let page = page(&Report::new(&run, &limits), None, run.audio.as_ref().map(|_| &audio), "", "0");
        assert!(page.contains("<strong>INTERRUPTED</strong>: received SIGINT; results so far: "), "{name}: {page}");
        // Values that are not finite must not reach a drawing.
        for attribute in [" d=\"", " style=\"", " x=\"", " width=\""] {
            let values = between(&page, attribute, "\"");
            assert!(values.iter().all(|value| !value.contains("NaN") && !value.contains("inf")), "{name}: {values:?}");
        }
        assert!(!page.contains("inf dBFS") && !page.contains("NaN dBFS"), "{name}: {page}");
        // The page is parsed as XML after removing the deviations that HTML permits.
        let mut xml = page.replace("<!DOCTYPE html>", "").replace(" controls ", " ");
        for open in ["meta", "link"] {
            for element in between(&page, &format!("<{open} "), ">") {
                let element = format!("<{open} {element}>");
                xml = xml.replace(&element, &element.replace('>', "/>").replace("%3E/>", "%3E"));
            }
        }
        for element in ["style", "script"] {
            xml = xml.replace(between(&page, &format!("<{element}>"), &format!("</{element}>"))[0], "");
        }
        let document = roxmltree::Document::parse(&xml).unwrap_or_else(|error| panic!("{name}: {error}: {xml}"));
        let ids: Vec<&str> = document.descendants().filter_map(|node| node.attribute("id")).collect();
        for node in document.descendants() {
            if let Some(id) = node.attribute("aria-labelledby") {
                assert_eq!(ids.iter().filter(|known| **known == id).count(), 1, "{name}: {id}");
            }
        }
        for drawing in document.descendants().filter(|node| node.has_tag_name("svg")) {
            let is_labeled = drawing.attribute("role") == Some("img")
                && (drawing.has_attribute("aria-labelledby") || drawing.has_attribute("aria-label"));
            assert!(is_labeled || drawing.attribute("aria-hidden") == Some("true"), "{name}: {drawing:?}");
        }
    }
}
