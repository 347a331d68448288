//! `echo-server --metrics`: the counters over HTTP in Prometheus format.

use std::net::{SocketAddr, TcpStream};

use test_support::server::{Client, Server, at, audio, keepalive, poll_until, send_to};
use test_support::snapshot;

/// Starts a server with metrics on a free port. Returns the server and the address of the metrics.
fn with_metrics(options: &[&str]) -> (Server, SocketAddr) {
    let mut server = Server::start(&[&["--host", "127.0.0.1", "--metrics", "0"], options].concat());
    let address = logged_address(&mut server);
    (server, address)
}

/// The address of the metrics, which the server logs.
pub(crate) fn logged_address(server: &mut Server) -> SocketAddr {
    let message = server.line_starting_with("metrics: listening url=http://").message;
    message.trim_start_matches("metrics: listening url=http://").trim_end_matches("/metrics").parse().unwrap()
}

pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    send_to(address, "GET", path, &[], "").body
}

/// The value of one metric on the metrics page `page`. `name` is the metric's name with its labels, exactly as on this page.
fn sample(page: &str, name: &str) -> Option<f64> {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}")))
}

#[test]
fn metrics_have_every_log_counter_and_lateness_every_sent_packet() {
    let (server, address) = with_metrics(&["-d", "0"]);
    let client = Client::connect(server.address);
    (0..50).for_each(|sequence| drop(client.exchange(&audio(sequence, 512))));
    for datagram in [&[1, 1, 0][..], &[9; 30], &[9; 31]] {
        client.send(datagram);
    }
    (0..8).for_each(|sequence| drop(client.exchange(&keepalive(sequence, b""))));
    // The server updates a counter shortly after the counted action.
    let page = poll_until("all are counted", || {
        let page = get(address, "/metrics");
        // The sources are at most one second old.
        let echoed = format!("jamjam_echo_source_echoed_total{{source=\"{}\"}}", client.address());
        (sample(&page, &echoed) == Some(50.0)).then(|| page.replace(&client.address().to_string(), "CLIENT"))
    });
    let is_measured = |line: &str| {
        line.contains("_lateness_seconds_sum")
            || line.contains("_bucket") && !line.contains("+Inf")
            || line.starts_with("jamjam_echo_pause")
    };
    let masked = page.lines().map(|line| match line.rsplit_once(' ') {
        Some((name, _)) if is_measured(line) && !line.starts_with('#') => format!("{name} …\n"),
        _ => format!("{line}\n"),
    });
    snapshot::assert_matches("servers/echo_metrics", &masked.collect::<String>());
    let stats = server.stop("TERM").stats();
    assert_eq!(
        Some(stats.count("received_bytes") as f64),
        sample(&page, "jamjam_echo_received_bytes_total"),
        "{stats}"
    );
}

#[test]
fn sources_need_a_login_and_metrics_name_them_on_loopback_only() {
    // printf 'admin:open' | base64, and `ops:open`
    let (admin, ops) = ("Authorization: Basic YWRtaW46b3Blbg==", "Authorization: Basic b3BzOm9wZW4=");
    for (host, user, headers, status) in [
        ("127.0.0.1", "", &[][..], 401),
        ("127.0.0.1", "", &[admin], 200),
        ("0.0.0.0", "", &[], 401),
        ("0.0.0.0", "ops", &[admin], 401),
        ("0.0.0.0", "ops", &[ops], 200),
    ] {
        let options = ["--host", "127.0.0.1", "-d", "0", "--metrics", &format!("{host}:0")];
        let mut server = Server::start_with(&options, |command| {
            command.env("DOCS_USERNAME", user).env("DOCS_PASSWORD", "open");
        });
        let address = at("127.0.0.1", logged_address(&mut server));
        let client = Client::connect(server.address);
        (0..3).for_each(|sequence| drop(client.exchange(&audio(sequence, 64))));
        poll_until("the source", || {
            let response = send_to(address, "GET", "/sources", headers, "");
            assert_eq!(response.status, status, "{host} {user}");
            // The list is at most one second old.
            let source = response.json()[0].clone();
            let is_listed = source["source"] == client.address().to_string() && source["echoed"] == 3;
            (status == 401 || is_listed).then_some(())
        });
        // Others than local users may read the metrics without a login, but no addresses of sources.
        let is_local = host == "127.0.0.1";
        poll_until("the metrics", || {
            (get(address, "/metrics").contains("jamjam_echo_source_") == is_local).then_some(())
        });
    }
}

#[test]
fn root_links_to_all_paths_and_invalid_requests_are_rejected() {
    let (_server, address) = with_metrics(&[]);
    // Only the UDP echo has sources.
    let mut moqt = Server::start_as(&["--moqt-only", "--moqt", "127.0.0.1:0", "--metrics", "0"], |_| {});
    for (address, expected) in
        [(address, &["/metrics", "/healthz", "/sources"][..]), (logged_address(&mut moqt), &["/metrics", "/healthz"])]
    {
        let page = get(address, "/");
        let links: Vec<&str> = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(links, expected, "{page}");
        for path in links {
            // Without a password and a terminal, nobody can log in.
            let status = if path == "/sources" { 403 } else { 200 };
            assert_eq!(send_to(address, "GET", path, &[], "").status, status, "{path}");
        }
    }
    assert_eq!(get(address, "/healthz"), "ok\n");
    for (method, path, status) in [("GET", "/../etc/passwd", 404), ("POST", "/metrics", 405)] {
        assert_eq!(send_to(address, method, path, &[], "").status, status, "{path}");
    }
}

#[test]
fn silent_connections_stop_neither_the_echo_nor_the_shutdown() {
    let (server, address) = with_metrics(&["-d", "0"]);
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let client = Client::connect(server.address);
    assert_eq!(client.exchange(&audio(1, 512)), audio(1, 512));
    // Closing the silent connections frees their slots.
    drop(silent);
    assert_eq!(get(address, "/healthz"), "ok\n");
    let _silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(server.stop("TERM").code, Some(0));
}

#[test]
fn lines_of_a_closed_log_are_counted_and_do_not_end_the_server() {
    let (mut server, address) = with_metrics(&["--stats-interval", "20ms"]);
    server.close_log();
    poll_until("dropped lines", || {
        sample(&get(address, "/metrics"), "jamjam_echo_log_dropped_total").filter(|n| *n > 0.0)
    });
    server.signal("INT");
    assert_eq!(server.wait(), Some(0));
}
