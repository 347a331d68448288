//! moq-lite with the independent client and server in `tests/moq_peers`, over raw QUIC and WebTransport. They use the moq-dev crates.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::moqt::MoqtLog;
use test_support::client::{Program, run_args, start};
use test_support::server::Server;

const VERSIONS: [&str; 2] = ["moq-lite-04", "moq-lite-03"];
const RUNS: usize = 3;

/// The counterpart's program, as `cargo build --release` builds it.
fn counterpart() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/moq_peers/target/release/moq_peers");
    assert!(program.exists(), "run this first: cargo build --release --manifest-path tests/moq_peers/Cargo.toml");
    program
}

/// Runs the counterpart's client, which offers `versions`.
fn run_counterpart_client(url: &str, versions: &str) -> Value {
    // One client sends 50 groups, one every 20 ms.
    let mut command = Command::new(counterpart());
    let output = command.args(["client", url, versions, "1", "50", "20"]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{url}, {versions}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The counterpart's server, which accepts all versions that it implements. The process is killed when this value is dropped.
struct CounterpartServer {
    _program: Program,
    port: String,
}

impl CounterpartServer {
    fn start() -> Self {
        let mut command = Command::new(counterpart());
        command.args(["server", "127.0.0.1:0", "all"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut program = start(&mut command);
        let (line, _) = program.first_line();
        let (_, port) = line.trim().rsplit_once(':').expect("an address");
        Self { port: port.to_owned(), _program: program }
    }
}

#[test]
#[ignore = "needs tests/moq_peers: .ci/full"]
fn moq_net_client_receives_its_groups_from_our_server() {
    let mut server = Server::start(&["--host", "127.0.0.1", "--moqt", "localhost:0"]);
    let log = MoqtLog::of(&mut server);
    // A client that offers every version gets the newest that both support.
    for (offered, expected) in [(VERSIONS[0], VERSIONS[0]), (VERSIONS[1], VERSIONS[1]), ("all", VERSIONS[0])] {
        for url in log.urls() {
            for run in 1..=RUNS {
                let result = run_counterpart_client(url, offered);
                println!("{url}, {offered} offered, run {run}: {result}");
                let counts = ["version", "sent", "returned", "altered"].map(|name| result[name].clone());
                assert_eq!(counts, [json!(expected), json!(50), json!(50), json!(0)], "{url}, {offered}");
            }
        }
    }
}

#[test]
#[ignore = "needs tests/moq_peers: .ci/full"]
fn probe_and_publish_receive_their_groups_from_moq_net_server() {
    let server = CounterpartServer::start();
    for url in ["moqt", "https"].map(|scheme| format!("{scheme}://localhost:{}/echo", server.port)) {
        for version in VERSIONS {
            for run in 1..=RUNS {
                let sends = ["--count", "50", "--interval", "20ms", "--frames-per-group", "2"];
                let target = ["probe", "--to", &url, "--insecure", "--json", "--moqt-version", version];
                let output = run_args(target.iter().chain(&sends));
                assert_eq!(output.code, 0, "{url}, {version}: {output:?}");
                let report: Value = serde_json::from_str(&output.stdout).unwrap();
                println!("{url}, {version}, run {run}: p50 {} µs", report["streams"]["ping"]["rtt_p50_us"]);
                assert_eq!(report["moqt"]["version"], version, "{:#}", report["moqt"]);
                let counts = ["sent", "returned", "damaged"].map(|name| report["streams"]["ping"][name].clone());
                assert_eq!(counts, [json!(100), json!(100), json!(0)], "{url}, {version}");
            }
        }
        let output = run_args(["publish", &url, "--insecure", "--text", "hello", "--text", "again"]);
        assert_eq!((output.code, output.stdout.as_str()), (0, "hello\nagain\n"), "{url}: {output:?}");
    }
}
