//! `send --room --clients`: members of a room who hear each other for a while.

use serde_json::{Value, json};
use test_support::certificate::Authority;
use test_support::client::{ProgramOutput, document, measured, run, start_line, together};
use test_support::server::{Member, Server};

/// The document that `--json` prints.
fn musicians(output: &ProgramOutput) -> Value {
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    document::assert_valid(&report);
    assert_eq!(report["type"], "musicians");
    report
}

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
                "send --tone 220 --duration 3s --clients 2 --signaling-url {url} --room jam --json{option} {LIMITS}"
            );
            let others = start_line(&line);
            let outputs = [run(&line), others.end()];
            for output in outputs {
                assert_eq!((output.code, &*output.stderr), (0, ""), "{output:?}");
                let report = musicians(&output);
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

#[test]
fn musicians_join_a_room_over_tls() {
    measured(|| {
        let authority = Authority::new();
        let signaling = Server::start_signaling(&authority.certify().options());
        let (port, ca) = (signaling.address.port().to_string(), authority.own());
        let (url, ca) = (format!("wss://localhost:{port}"), ca.to_str().unwrap());
        let options =
            ["--host", "127.0.0.1", "--delay", "50", "--room-name", "jam", "--signaling-url", &url, "--ca", ca];
        let mut echo = Server::start(&options);
        echo.line_starting_with("registration: room created ");
        let line =
            format!("send --tone 220 --duration 2s --clients 2 --json --signaling-url {url} --ca {ca} --room jam");
        let report = musicians(&run(&line));
        // Each hears the other one and the Echo Bot.
        assert_eq!(directions(&report).filter(|(_, one)| one["packets"].as_u64() > Some(0)).count(), 4, "{report:#}");
    });
}

#[test]
fn run_fails_only_if_no_member_heard_anybody() {
    measured(|| {
        together([(1, 1, json!(["no member heard anybody"])), (2, 0, json!([]))], |(clients, code, reasons)| {
            let signaling = Server::start_signaling(&[]);
            let mut member = Member::connect(signaling.address);
            member.create_room("jam");
            let url = format!("ws://{}", signaling.address);
            let line = format!("send --tone 220 --clients {clients} --signaling-url {url} --room jam --duration 2s");
            let output = run(&format!("{line} --json"));
            assert_eq!(output.code, code, "{output:?}");
            let report = musicians(&output);
            // The member that has no address is named.
            assert_eq!(directions(&report).filter(|(_, one)| one["packets"] == 0).count(), clients, "{report:#}");
            assert_eq!(report["verdict"]["reasons"], reasons);
        });
    });
}
