//! The signaling server with clients that use the Node libraries `ws` and `werift`. Both libraries are installed in `tests/node`.

use std::path::Path;
use std::process::Command;

use test_support::server::process::Server;

#[test]
#[ignore = "needs Node and what npm installs: .ci/full"]
fn npm_ws_uses_every_dialect_and_werift_opens_a_data_channel() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
    assert!(folder.join("node_modules").exists(), "run this first: npm ci --prefix tests/node");
    let server = Server::start_signaling(&["--bbx-room", "1234"]);
    let output = Command::new("node").arg(folder.join("clients.mjs")).arg(server.address.to_string()).output();
    let output = output.expect("node");
    let [stdout_text, wrong] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    print!("{stdout_text}");
    assert!(output.status.success(), "{wrong}");
    let dialects: Vec<_> = stdout_text.lines().filter_map(|line| line.strip_suffix(": passed")).collect();
    assert_eq!(dialects, ["broadcast", "jamjam", "bbx", "webrtc"]);
}
