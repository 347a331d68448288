//! `musicians`: members of a room who hear each other for a while.

use serde_json::Value;
use test_support::client::{document, measured, run, start_line, together};
use test_support::server::Server;

/// Limits that only this host can exceed.
const LIMITS: &str = "--max-loss 50% --max-jitter 1s";

fn directions(report: &Value) -> impl Iterator<Item = (&str, &Value)> {
    report["directions"].as_array().unwrap().iter().map(|one| (one["from"].as_str().unwrap(), one))
}

#[test]
fn members_of_two_programs_and_an_echo_bot_hear_each_other() {
    measured(|| {
        let cases =
            [("", "plain", ""), ("/v1/signaling", "signed", ""), ("/v1/signaling", "unsigned", " --link unsigned")];
        together(cases, |(path, link, option)| {
            let signaling = Server::start_signaling(&[]);
            let url = format!("ws://{}{path}", signaling.address);
            let options = ["--host", "127.0.0.1", "--delay", "50", "--room-name", "jam", "--signaling-url", &url];
            let mut echo = Server::start(&options);
            echo.line_starting_with("registration: room created ");
            let line = format!(
                "musicians --tone 220 --duration 3s --clients 2 --signaling-url {url} --room jam --json{option} {LIMITS}"
            );
            let others = start_line(&line);
            let outputs = [run(&line), others.end()];
            for output in outputs {
                assert_eq!((output.code, &*output.stderr), (0, ""), "{output:?}");
                let report = document::report(&output);
                // Each musician: one of its own program, two of the other one, and the Echo Bot.
                let heard: Vec<_> = directions(&report).filter(|(_, one)| one["packets"].as_u64() > Some(0)).collect();
                assert_eq!(heard.len(), 8, "{report:#}");
                for (from, one) in heard {
                    assert_eq!(one["link"], link, "{one}");
                    assert_eq!(one["rtt_p50_us"].is_number(), from == "Echo Bot", "{one}");
                }
            }
        });
    });
}
