//! The signaling server with clients that use the Node libraries `ws` and `werift`, and its `AsyncAPI` document with the official schemas. The
//! libraries and the schemas are installed in `tests/node`.

use std::path::Path;
use std::process::{Command, Output};

use test_support::server::process::Server;

/// Runs a script of `tests/node` with the address of the server.
fn run_script(name: &str, server: &Server) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
    assert!(folder.join("node_modules").exists(), "run this first: npm ci --prefix tests/node");
    Command::new("node").arg(folder.join(name)).arg(server.address.to_string()).output().expect("node")
}

#[test]
#[ignore = "needs Node and what npm installs: .ci/full"]
fn npm_ws_uses_every_dialect_and_werift_opens_a_data_channel() {
    let server = Server::start_signaling(&["--bbx-room", "1234"]);
    let output = run_script("clients.mjs", &server);
    let [stdout_text, wrong] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    print!("{stdout_text}");
    assert!(output.status.success(), "{wrong}");
    let dialects: Vec<_> = stdout_text.lines().filter_map(|line| line.strip_suffix(": passed")).collect();
    assert_eq!(dialects, ["broadcast", "jamjam", "bbx", "webrtc"]);
}

/// The official schemas also reject changed copies of the document. The script validates each example with the schema of its message.
#[test]
#[ignore = "needs Node and what npm installs: .ci/full"]
fn asyncapi_document_and_its_examples_are_valid() {
    for options in [&[][..], &["--broadcast-envelope", "dynode"]] {
        let server = Server::start_signaling(&[&["--docs-password", "sesame"], options].concat());
        let output = run_script("asyncapi.mjs", &server);
        let [stdout_text, wrong] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{wrong}");
        assert!(stdout_text.starts_with("7 channels and "), "{stdout_text}");
    }
}
