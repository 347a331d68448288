//! `examples/control_surface.rs` in a process of its own, with a telephone.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tungstenite::Message;

use super::example_program;
use crate::control_surface::{Surface, hear, joined, say};

/// Microseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// What the meter shows next.
fn meter(phone: &mut Surface) -> f64 {
    loop {
        let message = hear(phone);
        if message["type"] == "visualization" {
            return message["data"][0].as_f64().unwrap();
        }
    }
}

/// Ends with the test, however that ends.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process is this very test, told to be the example.
#[test]
fn the_example_obeys_a_telephone_at_the_time_it_says_and_speaks_to_it() {
    if env::var_os("BIND_ADDR").is_some() {
        example_program::main().unwrap();
        return;
    }
    let (_, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::the_example_obeys_a_telephone_at_the_time_it_says_and_speaks_to_it");
    let child = Command::new(env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture", "--test-threads=1"])
        .env("BIND_ADDR", "127.0.0.1:0")
        .stdout(Stdio::piped())
        .spawn();
    let mut example = Example(child.unwrap());
    let mut lines = BufReader::new(example.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("room ")).unwrap();
    let (code, address) = line.split_once("room ").unwrap().1.split_once(" at ws://").unwrap();
    let address = address.trim_end_matches('/').parse().unwrap();
    let mut phone = joined(address, code, None);
    assert_eq!(meter(&mut phone), 0.0);
    let at = now() + 400_000;
    say(&mut phone, &json!({"type": "param", "param": "gain", "value": 0.25, "at": at}));
    say(&mut phone, &json!({"type": "trigger", "name": "note_on"}));
    say(&mut phone, &json!({"type": "trigger", "name": "note_on", "at": 1}));
    // What is too far ahead holds at once.
    say(&mut phone, &json!({"type": "trigger", "name": "note_on", "at": 1e300}));
    let mut notes = 0.0;
    while notes < 3.0 {
        let message = hear(&mut phone);
        if message["type"] == "update" {
            assert_eq!(message["param"], "notes");
            notes = message["value"].as_f64().unwrap();
        }
    }
    while meter(&mut phone) == 0.0 {}
    assert!(now() >= at, "{} µs too early", at - now());
    assert_eq!(meter(&mut phone), 0.25);
    let id = example.0.id().to_string();
    assert!(Command::new("sh").args(["-c", "kill -s INT \"$0\"", &id]).status().unwrap().success());
    let frame = loop {
        if let Message::Close(frame) = phone.read().unwrap() {
            break frame.unwrap();
        }
    };
    assert_eq!(u16::from(frame.code), 1_001);
    drop(phone);
    assert!(lines.any(|line| line == "3 notes, 0 events lost"));
    assert!(example.0.wait().unwrap().success());
}
