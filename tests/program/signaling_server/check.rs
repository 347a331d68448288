//! `--check`: clients of each dialect on real sockets, the exit code and the reports.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::client::Program;
use test_support::server::{Member, frame, program, run_during};

use super::{SECRET, broadcast_member, control_surface, jamjam_creator, webrtc_member};

const PAGE: &str = "docs/signaling-server.md#check-of-a-client";

const DIALECTS: [&str; 4] = ["jamjam", "broadcast", "bbx", "webrtc"];

/// A client that joins a room and has sent one right message, which the server has answered.
fn correct(server: SocketAddr, dialect: &str) -> Member {
    let (mut member, message, answer) = match dialect {
        "jamjam" => return jamjam_creator(server).0,
        "bbx" => return control_surface(server, "4711"),
        "broadcast" => (broadcast_member(server, "lobby", "ann"), "keepalive", "ack"),
        _ => (webrtc_member(server, "r", "ann"), "ping", "pong"),
    };
    member.send(message, &Value::Null);
    member.skip_to(answer);
    member
}

/// Runs the server, and stops it after `clients` have done their part. Returns the exit code, standard output and the log.
fn check(options: &[&str], clients: impl FnOnce(SocketAddr)) -> (i32, String, String) {
    check_until(options, |server, running| {
        clients(server);
        running.signal("INT");
    })
}

/// Like [`check`], if the server is stopped otherwise or ends by itself.
fn check_until(options: &[&str], clients: impl FnOnce(SocketAddr, &Program)) -> (i32, String, String) {
    let fixed = ["signaling-server", "--host", "127.0.0.1", "--port", "0", "--bbx-room", "4711", "--check"];
    let output = run_during(&[&fixed, &SECRET[..], options].concat(), clients);
    (output.code, output.stdout, output.stderr)
}

#[test]
fn correct_clients_of_all_dialects_pass() {
    let (code, report, log) = check(&["--json", "--expect-sources", "4", "--fail-on", "note"], |server| {
        // Disconnected clients count too.
        for dialect in DIALECTS {
            drop(correct(server, dialect));
        }
    });
    assert_eq!(code, 0, "{report}\n{log}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["verdict"]["passed"], &report["untracked"]), (&json!(true), &json!(0)));
    let expected = |(number, dialect)| {
        let (name, facts) = (format!("connection {number} of 127.0.0.1"), format!("{dialect}, joined a room"));
        json!({"name": name, "facts": facts, "took_part": true, "findings": [], "not_judged": []})
    };
    let expected: Vec<Value> = DIALECTS.into_iter().enumerate().map(expected).collect();
    assert_eq!(report["sources"], json!(expected));
}

/// `tests/snapshots/signaling/strict.txt` has the sentences of all dialects.
#[test]
fn wrong_messages_fail_the_check_and_are_named() {
    let sentence = "member `type`: unknown type `ofer`; the nearest type is `offer`";
    let (code, report, log) = check(&[], |server| {
        let mut wrong = correct(server, "webrtc");
        // With --strict, each one is answered.
        (0..2).for_each(|_| {
            wrong.send_text(r#"{"type":"ofer","targetUserId":"ann"}"#);
            wrong.receive();
        });
    });
    let finding = format!("connection 0 of 127.0.0.1: error: {sentence} (2 messages) [unknown_type, {PAGE}]");
    assert!(report.contains("\nconnection 0 of 127.0.0.1: webrtc, joined a room\n"), "{report}");
    assert!(report.contains(&format!("\nfinding: {finding}\n")), "{report}");
    assert!(report.ends_with(&format!("\nFAILED: {finding}\n")) && code == 1, "{report}\n{log}");
    // Each one is logged when it arrives.
    assert_eq!(log.matches(sentence).count(), 2, "{log}");
}

/// A member may have left before a message to it arrived, and users mistype passwords.
#[test]
fn refused_requests_are_warnings_and_wrong_urls_and_frames_are_errors() {
    let absent = |server| {
        let mut member = correct(server, "webrtc");
        member.send_json(&json!({"type": "offer", "targetUserId": "bob", "sdp": "v=0"}));
        member.receive();
    };
    for (fail_on, code) in [("error", 0), ("warning", 1)] {
        let (ended, report, _) = check(&["--fail-on", fail_on], absent);
        assert_eq!(ended, code, "{report}");
        assert!(report.contains(": warning: targetUserId is not in the room [refused, docs/"), "{report}");
    }
    let wrong = |server| {
        assert_eq!(Member::connect_to(server, "/lobby?token=x").closed().0, 4002);
        let mut member = correct(server, "webrtc");
        // A frame with an opcode that RFC 6455 reserves.
        member.0.get_mut().write_all(&frame(0x83, b"x")).unwrap();
        assert_eq!(member.closed().0, 1002);
    };
    let (code, report, _) = check(&[], wrong);
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("0 of 127.0.0.1: broadcast, joined no room\n"), "{report}");
    assert!(report.contains(": error: malformed token [rejected_connection, "), "{report}");
    assert!(report.contains("finding: connection 1 of 127.0.0.1: error: "), "{report}");
}

#[test]
fn wrong_device_signature_is_an_error_of_a_client_that_came() {
    let (code, report, _) = check(&["--require-device", "--expect-sources", "1"], |server| {
        assert_eq!(Member::try_connect(server, "/v1/signaling", &[("x-device-id", "wrong")]).err(), Some(401));
    });
    let reason = "the request needs exactly one header x-device-pubkey";
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("connection 0 of 127.0.0.1: jamjam, joined no room\n"), "{report}");
    assert!(report.contains(&format!("finding: connection 0 of 127.0.0.1: error: {reason} [rej")), "{report}");
    assert!(report.contains("FAILED: 0 of 1 expected connections joined a room; connection 0"), "{report}");
}

#[test]
fn stop_signal_or_idle_time_ends_the_check_with_its_report() {
    for (signal, options, verdict) in [
        (Some("INT"), ["--expect-sources", "1"], "PASSED"),
        (Some("TERM"), ["--expect-sources", "2"], "FAILED: 1 of 2 expected connections joined a room"),
        (None, ["--until-idle", "100ms"], "PASSED"),
    ] {
        let (code, report, _) = check_until(&options, |server, running| {
            let mut member = correct(server, "jamjam");
            if let Some(signal) = signal {
                running.signal(signal);
            }
            assert_eq!(member.closed().0, 1001);
        });
        assert!(report.contains("\nconnection 0 of 127.0.0.1: jamjam, joined a room\n"), "{report}");
        assert_eq!((code, report.lines().last()), (i32::from(verdict != "PASSED"), Some(verdict)), "{report}");
    }
}

/// The variables of a container do not count. The check ends when the connections of the command are closed.
#[test]
fn command_is_run_against_the_server_on_a_free_port() {
    for (last, code) in [("true", 0), ("exit 7", 1)] {
        let test = "test \"$SIGNALING_URL\" = \"http://$SERVER\" && test -z \"$ROOM_CODE\"";
        let command = format!("{test}; \"$J\" probe --to \"$SIGNALING_WS_URL\" --dialect webrtc --count 3; {last}");
        let mut server = program(&["signaling-server", "--check", "--json", "--run", &command]);
        let own = server.get_program().to_owned();
        let variables = [("PORT", "1"), ("HOST", "192.0.2.1"), ("ROOM_CODE", "outer"), ("SIGNALING_URL", "outer")];
        let output = server.envs(variables).env("J", own).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let result = json!({"command": command, "exit_code": 7 * code, "signal": null, "ended_by": "itself"});
        assert_eq!((output.status.code(), &report["run"]), (Some(code), &result), "{output:?}");
        assert_eq!(report["sources"][0]["took_part"], true, "{report}");
    }
}

/// As `probe` and `send` do.
#[test]
fn reports_contain_the_error_of_a_server_that_cannot_start() {
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let ports = [("signaling-server", tcp.local_addr()), ("echo-server", udp.local_addr())];
    for (subcommand, address) in ports {
        let address = address.unwrap();
        let port = address.port().to_string();
        let folder = TempDir::new().unwrap();
        let [junit, markdown] = ["r.xml", "r.md"].map(|name| folder.path().join(name));
        let mut command = program(&[subcommand, "--host", "127.0.0.1", "--check", "--port", &port]);
        command.arg("--junit").arg(&junit).arg("--markdown").arg(&markdown);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let error = format!("cannot listen on {address}: the port is in use");
        assert!(String::from_utf8(output.stderr).unwrap().starts_with(&format!("jamjam-dev: {error}")));
        assert!(fs::read_to_string(junit).unwrap().contains(&format!("<error message=\"{error}")));
        assert!(fs::read_to_string(markdown).unwrap().starts_with("## ABORTED: "));
    }
}
