//! `--loss-direction` on the command line.

use std::net::SocketAddr;

use serde_json::{Value, json};
use test_support::client::{Server, ServerAction, run};

use crate::send_and_probe::report;

/// The numbers of packets that were lost, lost upstream and lost downstream.
fn losses(report: &Value, stream: &str) -> [Value; 3] {
    ["lost", "lost_upstream", "lost_downstream"].map(|name| report["streams"][stream][name].clone())
}

/// An embedded server loses its replies. Loss in both directions is tested in crates/measure.
#[test]
fn lost_replies_of_the_server_are_losses_downstream() {
    for (line, stream) in [
        ("probe --count 100 --interval 2ms", "ping"),
        ("probe --packet keepalive --count 100 --interval 2ms", "keepalive"),
        ("probe --packet audio --count 100 --interval 2ms", "audio"),
        ("send --tone 440 --duration 270ms", "audio"),
    ] {
        let line = format!("{line} --embedded --delay 20 --loss 20% --seed 1 --timeout 700ms --loss-direction");
        let report = report(0, &line);
        let [lost, upstream, downstream] = losses(&report, stream);
        assert!(lost.as_u64() > Some(5) && upstream == 0 && downstream == lost, "{report:#}");
        assert_eq!((&report["loss_report"]["response_received"], &report["stray"]), (&json!(true), &json!(0)));
        let mapped: SocketAddr = report["loss_report"]["mapped_address"].as_str().unwrap().parse().unwrap();
        assert!(mapped.ip().is_loopback(), "{mapped}");
    }
}

#[test]
fn server_that_ignores_stun_leaves_the_direction_unknown() {
    let server = Server::with_actions(move |packet| match packet.sequence {
        3 | 4 => ServerAction::Silence,
        _ => ServerAction::Reply,
    });
    let line = format!("probe --to {} --packet keepalive --count 20 --interval 1ms --timeout 300ms", server.to());
    let unknown = report(0, &format!("{line} --loss-direction"));
    assert_eq!(losses(&unknown, "keepalive"), [json!(2), Value::Null, Value::Null]);
    assert_eq!(unknown["loss_report"], json!({"response_received": false, "mapped_address": null}));
    // The server receives three requests at the start, and no request at the end.
    assert_eq!((server.queries(), server.received().len()), (3, 20));
    // Without the option, a warning names it.
    let text = run(&line).stdout;
    assert_eq!(text.matches("--loss-direction").count(), 1, "{text}");
    assert!(!text.contains("lost upstream") && !text.contains("mapped address"), "{text}");
}
