//! `examples/control_surface.rs` in its own process, with a control surface.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tungstenite::Message;

use super::example_program;
use crate::signaling_server::control_surface;
use test_support::client::start;
use test_support::server::Member;

/// Microseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// The next meter value.
fn meter(surface: &mut Member) -> f64 {
    surface.skip_to("visualization")["data"][0].as_f64().unwrap()
}

/// The test starts its own test program again with the variable `BIND_ADDR`. In that second process, this test runs the example instead.
#[test]
fn example_applies_scheduled_values_and_sends_its_meter() {
    if env::var_os("BIND_ADDR").is_some() {
        example_program::main().unwrap();
        return;
    }
    let (_, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::example_applies_scheduled_values_and_sends_its_meter");
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([&name, "--exact", "--nocapture", "--test-threads=1"]).env("BIND_ADDR", "127.0.0.1:0");
    let mut example = start(command.stdout(Stdio::piped()));
    let mut lines = BufReader::new(example.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("room ")).unwrap();
    let (code, address) = line.split_once("room ").unwrap().1.split_once(" at ws://").unwrap();
    let address = address.trim_end_matches('/').parse().unwrap();
    let mut surface = control_surface(address, code);
    assert_eq!(meter(&mut surface), 0.0);
    let at = now() + 400_000;
    surface.send_json(&json!({"type": "param", "param": "gain", "value": 0.25, "at": at}));
    surface.send_json(&json!({"type": "trigger", "name": "note_on"}));
    surface.send_json(&json!({"type": "trigger", "name": "note_on", "at": 1}));
    // An event whose time is too far ahead is applied immediately.
    surface.send_json(&json!({"type": "trigger", "name": "note_on", "at": 1e300}));
    let mut notes = 0.0;
    while notes < 3.0 {
        let message = surface.skip_to("update");
        assert_eq!(message["param"], "notes");
        notes = message["value"].as_f64().unwrap();
    }
    while meter(&mut surface) == 0.0 {}
    assert!(now() >= at, "{} µs too early", at - now());
    assert_eq!(meter(&mut surface), 0.25);
    example.signal("INT");
    let close = std::iter::repeat_with(|| surface.0.read().unwrap()).find(Message::is_close);
    let Some(Message::Close(Some(frame))) = close else { panic!("{close:?}") };
    assert_eq!(u16::from(frame.code), 1_001);
    drop(surface);
    assert!(lines.any(|line| line == "3 notes"));
    assert_eq!(example.end().code, 0);
}
