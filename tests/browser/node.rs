//! The programs with libraries that npm installs in `tests/node`: the signaling server with `ws` and `werift`, its `AsyncAPI` document with
//! the official schemas, and the MOQT echo with `@moq/net` in a browser.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use jamjam_dev::signaling::{SignalingLimits, message_docs::message_docs};
use serde_json::{Value, json};
use test_support::server::Server;

use crate::chromium::Chromium;

const GROUPS: u64 = 50;

/// Runs a program in the folder `tests/node`, and returns its output.
fn run_in_node_folder(program: &str, arguments: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
    assert!(folder.join("node_modules").exists(), "run this first: npm ci --prefix tests/node");
    let output = Command::new(program).args(arguments).current_dir(folder).output().expect(program);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs Node and what npm installs: .ci/full"]
fn npm_ws_uses_every_dialect_and_werift_opens_a_data_channel() {
    let server = Server::start_signaling(&["--bbx-room", "1234"]);
    let output = run_in_node_folder("node", &["clients.mjs", &server.address.to_string()]);
    print!("{output}");
    let dialects: Vec<_> = output.lines().filter_map(|line| line.strip_suffix(": passed")).collect();
    assert_eq!(dialects, ["broadcast", "jamjam", "bbx", "webrtc"]);
}

/// The official schemas also reject changed copies of the document. The script validates each example with the schema of its message.
#[test]
#[ignore = "needs Node and what npm installs: .ci/full"]
fn asyncapi_document_and_its_examples_are_valid() {
    for options in [&[][..], &["--broadcast-envelope", "dynode"]] {
        let server = Server::start_signaling(&[&["--docs-password", "sesame"], options].concat());
        let output = run_in_node_folder("node", &["asyncapi.mjs", &server.address.to_string()]);
        let channels = message_docs(&SignalingLimits::default()).channels.len();
        assert!(output.starts_with(&format!("{channels} channels and ")), "{output}");
    }
}

/// Serves an empty page and returns its URL. Browsers offer WebTransport only to pages from a secure origin, such as loopback.
fn serve_empty_page() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
        }
    });
    url
}

#[test]
#[ignore = "needs Chromium and what npm installs: .ci/full"]
fn groups_of_moq_net_return_over_its_default_version_and_moq_lite_03() {
    let bundle = ["moq_net.mjs", "--bundle", "--format=iife", "--log-level=warning"];
    let bundle = run_in_node_folder("node_modules/.bin/esbuild", &bundle);
    let mut server = Server::start(&["--host", "127.0.0.1", "--moqt", "localhost:0"]);
    let serving = server.line_starting_with("moqt: serving url=https://").message;
    let certificate = server.line_starting_with("tls: certificate in use").message;
    let url = serving.trim_start_matches("moqt: serving url=").trim_end_matches(" transport=WebTransport");
    let (_, sha256) = certificate.split_once(" sha256=").unwrap();
    let browser = Chromium::start();
    let page = browser.open(&serve_empty_page(), None);
    page.get(&format!("{bundle}; null"));
    // Without protocols, the library offers its default.
    for (protocols, version) in [(Value::Null, "moq-lite-04"), (json!(["moq-lite-03"]), "moq-lite-03")] {
        for run in 1..=3 {
            let options =
                json!({"url": url, "sha256": sha256, "protocols": protocols, "groups": GROUPS, "intervalMs": 20});
            let result = page.get(&format!("exchange({options})"));
            println!("@moq/net, run {run}: {result}");
            let counts = ["version", "sent", "returned", "altered"].map(|name| &result[name]);
            assert_eq!(counts, [&json!(version), &json!(GROUPS), &json!(GROUPS), &json!(0)], "{result}");
        }
    }
}
