//! A whole run of a jamjam client: it finds the echo server, proves its identity, and hears itself after the usual delay of 3 s.

use serde_json::{Value, json};
use test_support::client::{counts, json_report, measured, run};
use test_support::server::Server;

#[test]
fn client_finds_the_server_proves_itself_and_hears_itself_after_3_s() {
    measured(|| {
        let signaling = Server::start_signaling(&["--require-device"]);
        let url = format!("ws://{}/v1/signaling", signaling.address);
        let mut echo = Server::start(&["--host", "127.0.0.1", "--signaling-url", &url]);
        echo.line_starting_with("registration: room created ");
        let found = format!("http://{}", signaling.address);
        let rooms = run(&format!("rooms {found} --json"));
        let rooms: Value = serde_json::from_str(&rooms.stdout).unwrap();
        let code = rooms["rooms"][0]["invite_code"].as_str().unwrap();
        assert_eq!(code.len(), 9, "{rooms}");

        let limits = "--max-loss 0% --max-p50 100ms";
        let line =
            format!("send --tone 440 --duration 1s --link signed --signaling-url {found} --room {code} {limits}");
        let report = json_report(0, &line);
        // 1 s of packets with 128 samples at 48 kHz.
        let [sent, returned, excluded] = counts(&report, "audio", ["sent", "returned", "excluded"]);
        assert_eq!((sent, returned + excluded), (375, 375), "{report:#}");
        assert_eq!(counts(&report, "audio", ["reordered", "damaged"]), [0, 0]);
        assert!(report["audio"]["echo_time_min_us"].as_f64().unwrap() >= 3e6, "{report:#}");
        assert_eq!((&report["audio"]["channels"], &report["audio"]["payload_bytes"]), (&json!(2), &json!(1_024)));
        let link = &report["link"];
        assert_eq!((&link["signed"], &link["encrypted"]), (&json!(true), &json!(true)));
        for count in ["not_opened", "replayed", "no_keys", "plain", "key_exchange"] {
            assert_eq!(link[format!("dropped_{count}")], 0, "{link}");
        }
        let line = echo.line_starting_with("echo: link agreed ").message;
        assert!(line.ends_with("link=encrypted"), "{line}");
    });
}
