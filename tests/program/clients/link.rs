//! `send` and `probe` as jamjam clients of autumn 2026, against the servers of this program over real sockets.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use test_support::client::{ProgramOutput, Server as Echo, closed_udp_port, document, run, run_to_success, together};
use test_support::server::Server;

/// The report of a run that passed without warnings.
fn clean_report(output: &ProgramOutput) -> Value {
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:?}");
    document::report(output)
}

/// The counts of dropped packets, which must all be 0.
fn assert_nothing_dropped(link: &Value) {
    for count in ["not_opened", "replayed", "no_keys", "plain", "key_exchange"] {
        assert_eq!(link[format!("dropped_{count}")], 0, "{link}");
    }
    assert_eq!(link["connection_failure"], Value::Null);
}

fn warning<'a>(report: &'a Value, code: &str) -> &'a str {
    let warnings = report["warnings"].as_array().unwrap();
    let found = warnings.iter().find(|warning| warning["code"] == code);
    found.unwrap_or_else(|| panic!("no {code}: {report}"))["message"].as_str().unwrap()
}

#[test]
fn probe_and_send_encrypt_all_their_packets() {
    let server =
        Server::start(&["--host", "127.0.0.1", "--delay", "20", "--link", "require", "--socket-buffer", "4MiB"]);
    let lines = [
        "probe --count 50 --interval 2ms",
        "probe --count 50 --interval 2ms --packet keepalive",
        "probe --count 50 --interval 2ms --packet audio",
        "probe --count 50 --interval 2ms --packet audio --loss-direction",
        "send --tone 440 --duration 200ms",
        "send --tone 440 --duration 200ms --wait-for 10s --frame-size 32",
    ];
    together(lines, |options| {
        let report = clean_report(&run(&format!("{options} --link unsigned --to {} --json", server.address)));
        let stream = &report["streams"][report["evaluated_stream"].as_str().unwrap()];
        let [sent, returned, excluded] = ["sent", "returned", "excluded"].map(|name| stream[name].as_u64().unwrap());
        assert_eq!((sent, &stream["lost"]), (returned + excluded, &json!(0)));
        let link = &report["link"];
        assert_eq!((&link["signed"], &link["encrypted"]), (&json!(false), &json!(true)), "{options}");
        assert_nothing_dropped(link);
    });
    let stats = server.stop("TERM").stats();
    assert!(stats.count("links") >= lines.len() as u64, "{stats}");
    assert_eq!((stats.count("dropped_plain"), stats.count("audio_without_keys")), (0, 0), "{stats}");
}

#[test]
fn server_without_encryption_is_reported() {
    let mut server = Server::start(&["--host", "127.0.0.1", "--delay", "20", "--link", "plain"]);
    server.line_starting_with("echo: audio is not encrypted");
    let line = format!("send --tone 440 --duration 200ms --to {} --link unsigned --json", server.address);
    let report = clean_report(&run_to_success(&line));
    assert_eq!(document::counts(&report, "audio", ["sent", "lost"]), [75, 0]);
    assert_eq!((&report["link"]["encrypted"], &report["link"]["setup_ms"]), (&json!(false), &Value::Null));
    assert!(warning(&report, "link_plain").contains("not encrypted"));
}

#[test]
fn link_that_is_not_settled_ends_the_run_with_cause_and_remedy() {
    // The first server does not answer CONTROL, like the servers of January 2026.
    let (older, (_reserved, closed)) = (Echo::correct(), closed_udp_port());
    for (to, kind, text) in [
        (older.address, "no_key_exchange", "does not answer CONTROL, so it has no encrypted links. Omit --link"),
        (closed, "port_unreachable", "no program receives on this port"),
    ] {
        let line = format!("send --tone 440 --duration 1s --to {to} --link unsigned --timeout 1s");
        let output = run(&line);
        assert!(output.stdout.contains(text) && output.stdout.contains("no encrypted link within 1s"), "{output:?}");
        let report = crate::clients::report(1, &line);
        assert_eq!(report["link"]["connection_failure"]["kind"], kind);
        assert_eq!(report["verdict"]["reasons"], json!(["no encrypted link within 1s"]));
        assert_eq!(report["warnings"].as_array().unwrap().len(), 1, "{report}");
        assert!(warning(&report, "connection_failure").contains(text));
    }
}

#[test]
fn signed_link_needs_a_room_that_announces_a_link_key() {
    let probe = |url: &str, link: &str| {
        format!("probe --count 3 --interval 1ms --signaling-url {url} --room Echo --link {link} --json")
    };
    for (option, is_encrypted) in [(&["--no-link-key"][..], true), (&["--link", "plain"], false)] {
        let signaling = Server::start_signaling(&[]);
        let url = format!("ws://{}", signaling.address);
        let fixed = ["--host", "127.0.0.1", "--delay", "20", "--signaling-url", &url];
        let mut echo = Server::start(&[&fixed, option].concat());
        echo.line_starting_with("registration: room created ");
        let found = format!("http://{}", signaling.address);
        let output = run(&probe(&found, "signed"));
        assert_eq!(output.code, 3, "{output:?}");
        assert!(
            output.stderr.contains("announces no link key") && output.stderr.contains("--no-link-key"),
            "{output:?}"
        );
        assert_eq!(clean_report(&run_to_success(&probe(&found, "unsigned")))["link"]["encrypted"], is_encrypted);
        // On the older path, the server announces no link keys.
        assert!(run(&probe(&url, "signed")).stderr.contains("--signaling-url http://HOST or ws://HOST/v1/signaling"));
    }
}

#[test]
fn discovery_that_fails_names_the_request_and_the_remedy() {
    let signaling = Server::start_signaling(&["--dialect", "webrtc"]);
    let url = format!("http://{}/base", signaling.address);
    let output = run(&format!("rooms {url}"));
    assert_eq!(output.code, 3, "{output:?}");
    let expected = format!("GET {url}/api/v1/signaling failed: HTTP 4");
    assert!(output.stderr.contains(&expected) && output.stderr.contains("give its WebSocket URL"), "{output:?}");
}

#[test]
fn device_key_is_created_for_its_owner_and_kept() {
    let signaling = Server::start_signaling(&["--require-device"]);
    let url = format!("ws://{}/v1/signaling", signaling.address);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("device");
    let list = || run(&format!("rooms {url} --device-key {}", file.display()));
    let first = list();
    assert_eq!((first.code, first.stderr.as_str()), (0, ""), "{first:?}");
    let key = fs::read_to_string(&file).unwrap();
    // 32 bytes in base64 and a line feed.
    assert_eq!((key.len(), fs::metadata(&file).unwrap().permissions().mode() & 0o777), (45, 0o600));
    assert_eq!((list().code, fs::read_to_string(&file).unwrap()), (0, key));
    fs::write(&file, "no key").unwrap();
    let wrong = list();
    assert_eq!(wrong.code, 3, "{wrong:?}");
    assert!(wrong.stderr.contains("must contain 32 bytes in base64"), "{wrong:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "no key");
}
