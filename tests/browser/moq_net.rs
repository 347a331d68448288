//! The MOQT echo with the npm library `@moq/net` in a browser. The library and the bundler are installed in `tests/node`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::chromium::Chromium;
use test_support::server::process::Server;

const GROUPS: u64 = 50;

/// `moq_net.mjs` and the library as one script.
fn bundle() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
    let program = folder.join("node_modules/.bin/esbuild");
    assert!(program.exists(), "run this first: npm ci --prefix tests/node");
    let output = Command::new(program)
        .args(["moq_net.mjs", "--bundle", "--format=iife", "--log-level=warning"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Serves an empty page and returns its URL. Browsers offer WebTransport only to pages from a secure origin, such as loopback.
fn serve_empty_page() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
        }
    });
    url
}

/// `protocols`: the versions that the library offers, or null for its default.
fn check_echo(protocols: &Value, version: &str) {
    let mut server = Server::start(&["--host", "127.0.0.1", "--moqt", "localhost:0"]);
    let serving = server.line_starting_with("moqt: serving url=https://").message;
    let certificate = server.line_starting_with("tls: certificate in use").message;
    let url = serving.trim_start_matches("moqt: serving url=").trim_end_matches(" transport=WebTransport");
    let (_, sha256) = certificate.split_once(" sha256=").unwrap();
    let mut browser = Chromium::start();
    let page = browser.page(&serve_empty_page(), &bundle());
    for run in 1..=3 {
        let options = json!({
            "url": url,
            "sha256": sha256,
            "protocols": protocols,
            "groups": GROUPS,
            "intervalMs": 20,
        });
        let result = browser.evaluate(&page, &format!("exchange({options})"));
        println!("@moq/net, run {run}: {result}");
        assert_eq!(
            (&result["version"], &result["sent"], &result["returned"], &result["altered"]),
            (&json!(version), &json!(GROUPS), &json!(GROUPS), &json!(0)),
            "{result}"
        );
    }
}

#[test]
#[ignore = "needs Chromium and what npm installs: .ci/full"]
fn groups_of_moq_net_return_over_its_default_version() {
    check_echo(&json!(null), "moq-lite-04");
}

#[test]
#[ignore = "needs Chromium and what npm installs: .ci/full"]
fn groups_of_moq_net_return_over_moq_lite_03() {
    check_echo(&json!(["moq-lite-03"]), "moq-lite-03");
}
