//! `echo-server --metrics`: the counters over HTTP in Prometheus format.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use test_support::server;

use server::client::Client;
use server::packet::{audio, keepalive};
use server::process::{Server, run};
use server::{TEST_TIMEOUT, poll_until};

/// Starts a server with metrics on a free port. Returns the server and the address of the metrics.
fn with_metrics(options: &[&str]) -> (Server, SocketAddr) {
    let mut server = Server::start(&[&["--host", "127.0.0.1", "--metrics", "0"], options].concat());
    let message = server.line_starting_with("metrics: listening url=http://").message;
    let address = message.strip_prefix("metrics: listening url=http://").and_then(|rest| rest.strip_suffix("/metrics"));
    let address =
        address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("no address in {message:?}"));
    (server, address)
}

/// Sends `request`, and reads the response until the server closes the connection.
fn request(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

fn get(address: SocketAddr, path: &str) -> (String, String) {
    get_as(address, path, "*/*")
}

fn get_as(address: SocketAddr, path: &str, accept: &str) -> (String, String) {
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: {accept}\r\n\r\n");
    let answer = request(address, head.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

/// Waits until `name` has this `value`, because the server updates a counter shortly after the counted action. Returns the page.
fn page_with(address: SocketAddr, name: &str, value: f64) -> String {
    poll_until(&format!("{name} {value}"), || {
        let (_, page) = get(address, "/metrics");
        (sample(&page, name) == Some(value)).then_some(page)
    })
}

/// The value of one metric on the metrics page `page`. `name` is the metric's name with its labels, exactly as on this page.
fn sample(page: &str, name: &str) -> Option<f64> {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}")))
}

#[test]
fn metrics_have_every_log_counter_and_lateness_every_sent_packet() {
    let (server, address) = with_metrics(&["-d", "0"]);
    let mut client = Client::connect(server.address);
    for sequence in 0..50 {
        client.send(&audio(sequence, 512));
        client.recv();
    }
    for sequence in 0..7 {
        client.send(&keepalive(sequence, b""));
        client.recv();
    }
    client.send(&[1, 1, 0]);
    client.send(&[9; 30]);
    client.send(&[9; 31]);
    client.sync();
    page_with(address, "jamjam_echo_buffered_bytes", 0.0);
    let (head, page) = get(address, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    // Each sample has a help text and a type under its own name. The samples of a histogram have suffixes.
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        for kind in ["HELP", "TYPE"] {
            assert!(page.contains(&format!("# {kind} {family} ")), "no {kind} of {name} in\n{page}");
        }
    }
    let (head, open_metrics) = get_as(address, "/metrics", "application/openmetrics-text;version=1.0.0,*/*;q=0.1");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert!(open_metrics.ends_with("\n# EOF\n"), "{open_metrics}");
    assert_eq!(sample(&open_metrics, "jamjam_echo_received_total"), Some(50.0), "{open_metrics}");
    for (name, value) in [
        ("jamjam_echo_received_total", 50.0),
        ("jamjam_echo_sent_total", 50.0),
        ("jamjam_echo_buffered", 0.0),
        ("jamjam_echo_buffered_bytes", 0.0),
        ("jamjam_echo_sources", 1.0),
        ("jamjam_echo_dropped_total{reason=\"short\"}", 1.0),
        ("jamjam_echo_dropped_total{reason=\"version\"}", 2.0),
        ("jamjam_echo_dropped_total{reason=\"type\"}", 0.0),
        ("jamjam_echo_dropped_total{reason=\"buffer_full\"}", 0.0),
        ("jamjam_echo_lateness_seconds_count{packet=\"audio\"}", 50.0),
        ("jamjam_echo_lateness_seconds_bucket{le=\"+Inf\",packet=\"audio\"}", 50.0),
        ("jamjam_echo_build_info{version=\"0.1.0\"}", 1.0),
    ] {
        assert_eq!(sample(&page, name), Some(value), "{name} in\n{page}");
    }
    let counted = |name: &str| sample(&page, &format!("jamjam_echo_{name}_total")).expect("a count");
    let replies = counted("immediate_replies");
    assert!(replies > 7.0 && replies == counted("keepalives") + counted("pings"), "{page}");
    assert_eq!(sample(&page, "jamjam_echo_lateness_seconds_count{packet=\"immediate\"}"), Some(replies));
    assert!(counted("sent_bytes") >= f64::from(50 * 524), "{page}");
    assert_eq!(counted("received_bytes"), counted("sent_bytes") + 3.0 + 30.0 + 31.0, "{page}");
    let stats = server.stop("TERM").stats();
    assert_eq!(stats.count("received_bytes") as f64, counted("received_bytes"), "{stats}");
}

#[test]
fn buffered_packets_are_visible_while_they_wait() {
    let (server, address) = with_metrics(&["-d", "60s"]);
    let mut client = Client::connect(server.address);
    (0..3).for_each(|sequence| client.send(&audio(sequence, 512)));
    client.sync();
    // Header, payload and the overhead charged per packet.
    let page = page_with(address, "jamjam_echo_buffered_bytes", f64::from(3 * (12 + 512 + 100)));
    assert_eq!(sample(&page, "jamjam_echo_buffered"), Some(3.0), "{page}");
}

#[test]
fn healthz_reports_ok_and_unknown_paths_get_404() {
    let (_server, address) = with_metrics(&[]);
    let (head, body) = get(address, "/healthz");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "ok\n");
    for (path, status) in [("/", "404"), ("/metrics/x", "404"), ("/../etc/passwd", "404")] {
        let (head, _) = get(address, path);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
    }
    let posted =
        request(address, b"POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
    let garbage = request(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not HTTP\r\n\r\n");
    assert!(garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
}

#[test]
fn silent_connections_stop_neither_the_echo_nor_the_shutdown() {
    let (server, address) = with_metrics(&["-d", "0"]);
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let client = Client::connect(server.address);
    client.send(&audio(1, 512));
    assert_eq!(client.recv(), audio(1, 512));
    // Closing the silent connections frees their slots.
    drop(silent);
    let page = poll_until("a page", || Some(get(address, "/healthz").1));
    assert_eq!(page, "ok\n");
    let _silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(server.stop("TERM").code, Some(0));
}

#[test]
fn log_lines_that_cannot_be_written_are_counted() {
    let (mut server, address) = with_metrics(&["--stats-interval", "20ms"]);
    server.close_log();
    poll_until("dropped lines", || {
        sample(&get(address, "/metrics").1, "jamjam_echo_log_dropped_total").filter(|n| *n > 0.0)
    });
}

#[test]
fn port_in_use_is_an_error_before_anything_is_served() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["echo-server", "--port", "0", "--metrics", &address], |_| {});
    assert_eq!(output.status.code(), Some(3));
    let error = String::from_utf8(output.stderr).unwrap();
    let beginning = format!("jamjam-dev: --metrics: cannot listen on {address}: ");
    assert!(error.starts_with(&beginning) && error.lines().count() == 1, "{error}");
}

#[test]
fn invalid_metrics_address_is_explained() {
    for wrong in ["", ":9464", "9464x", "example.org:9464", "127.0.0.1", "70000", "http://127.0.0.1:9464"] {
        let output = run(&["echo-server", "--port", "0", "--metrics", wrong], |_| {});
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("give ADDR:PORT, such as 127.0.0.1:9464"), "{wrong:?}: {error}");
    }
}
