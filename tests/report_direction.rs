//! Which way packets were lost, as the report tells it.

use jamjam_dev::flow::run::{Asked, Run, Signal, StreamKind};
use jamjam_dev::report::limits::Limits;
use jamjam_dev::report::{Report, markdown, text};
use jamjam_dev::stats::Stream;
use serde_json::{Value, json};

mod runs;

use runs::{MS, probe, stream};

/// Three of 103 pings were lost, and this is what the server told.
fn lossy(asked: impl Into<Option<Asked>>) -> Run {
    Run { asked: asked.into(), ..probe(Stream { sent: 103, lost: 3, ..stream(Stream::new(), [MS; 100]) }) }
}

fn asked(answered: bool, pings: Option<u32>) -> Asked {
    let seen_as = answered.then(|| "[2001:db8::7]:40000".parse().expect("an address"));
    Asked { answered, seen_as, heard: pings.map(|pings| [0, pings, 0]) }
}

fn document(run: &Run) -> Value {
    serde_json::to_value(Report::new(run, &Limits::default())).unwrap()
}

fn split(run: &Run) -> [Value; 2] {
    let ping = &document(run)["streams"]["ping"];
    ["lost_outward", "lost_homeward"].map(|name| ping[name].clone())
}

fn summary(run: &Run) -> String {
    text::summary(&Report::new(run, &Limits::default()), false)
}

/// The notes of a run without limits.
fn notes(run: &Run) -> Vec<String> {
    Report::new(run, &Limits::default()).caveats.into_iter().map(|caveat| caveat.text).collect()
}

#[test]
fn what_the_server_told_stands_under_its_names() {
    let told = lossy(asked(true, Some(101)));
    assert_eq!(split(&told), [json!(2), json!(1)]);
    assert_eq!(document(&told)["asked"], json!({"answered": true, "seen_as": "[2001:db8::7]:40000"}));
    assert_eq!(split(&lossy(asked(false, None))), [Value::Null, Value::Null]);
    assert_eq!(document(&lossy(asked(false, None)))["asked"], json!({"answered": false, "seen_as": null}));
    let nothing_lost = Run { asked: Some(asked(false, None)), ..probe(stream(Stream::new(), [MS])) };
    assert_eq!(split(&nothing_lost), [json!(0), json!(0)]);
    assert_eq!((split(&lossy(None)), &document(&lossy(None))["asked"]), ([Value::Null, Value::Null], &Value::Null));
}

#[test]
fn the_server_heard_at_least_none_and_at_most_all_of_it_and_its_counts_wrap() {
    let outward = |heard: u32| lossy(asked(true, Some(heard))).lost_outward(StreamKind::Ping);
    assert_eq!([100, 101, 103].map(outward), [3, 2, 0].map(Some));
    assert_eq!([0, 50, 99, 104, 2_000_000_000].map(outward), [3, 3, 3, 0, 0].map(Some));
    // 2^32 packets and 103 more: the server's count has wrapped.
    let ping = Stream { sent: (1 << 32) + 103, lost: 3, ..stream(Stream::new(), [MS; 100]) };
    let run = Run { asked: Some(asked(true, Some(101))), ..probe(ping) };
    assert_eq!(run.lost_outward(StreamKind::Ping), Some(2));
}

#[test]
fn the_table_tells_the_direction_only_where_the_server_was_asked() {
    let text = summary(&lossy(asked(true, Some(101))));
    let rows = "\nlost                             3\nlost outward                     2\nlost homeward                    1\nloss ";
    assert!(text.contains(rows) && text.contains("\nseen as               [2001:db8::7]:40000\n"), "{text}");
    let text = summary(&lossy(asked(false, None)));
    let rows = "\nlost outward               unknown\nlost homeward              unknown\n";
    assert!(text.contains(rows) && text.contains("\nseen as               unknown\n"), "{text}");
    let text = summary(&lossy(None));
    assert!(!text.contains("lost outward") && !text.contains("seen as"), "{text}");
}

#[test]
fn a_jobs_summary_tells_it_too() {
    let summary = |run: &Run| markdown::summary(&Report::new(run, &Limits::default()), None);
    let told = summary(&lossy(asked(true, Some(101))));
    assert!(told.contains("\n| lost | 3 |\n| lost outward | 2 |\n| lost homeward | 1 |\n| loss | "), "{told}");
    assert!(!summary(&lossy(None)).contains("| lost outward |"));
}

#[test]
fn loss_whose_direction_nobody_knows_is_said_with_the_reason() {
    assert_eq!(
        notes(&lossy(None)),
        ["which way packets were lost is not known; --ask-server tells, where the server is a jamjam-dev"]
    );
    let unknown = |why| [format!("which way 3 LATENCY_PING packets were lost is unknown: {why}")];
    let not_told = "the server did not tell what reached it, at the beginning and at the end";
    assert_eq!(notes(&lossy(asked(true, None))), unknown(not_told));
    assert_eq!(notes(&lossy(asked(false, None))), unknown("the server did not answer when it was asked"));
    let interrupted = Run { interrupted: Some(Signal::Interrupt), ..lossy(asked(true, None)) };
    assert_eq!(notes(&interrupted), unknown("the run was interrupted before the server was asked again"));
    assert_eq!(notes(&lossy(asked(true, Some(101)))), [""; 0]);
    assert_eq!(notes(&Run { asked: Some(asked(false, None)), ..probe(stream(Stream::new(), [MS; 100])) }), [""; 0]);
    // Where nothing came back at all there are other things to look at first.
    let silence = notes(&probe(Stream { sent: 100, lost: 100, ..Stream::new() }));
    assert!(silence.iter().all(|note| !note.contains("--ask-server")), "{silence:?}");
}
