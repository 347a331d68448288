//! The configurations of reverse proxies in docs/signaling-server.md, with the proxies from the Debian packages.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use test_support::certificate::Authority;
use test_support::client::free_port;
use test_support::server::{Server, get, poll_until, run};

use super::Terminated;

/// The code block of this language.
fn documented(language: &str) -> String {
    let page = fs::read_to_string(test_support::repository().join("docs/signaling-server.md")).unwrap();
    let section = page.split("### Reverse proxies\n").nth(1).unwrap();
    let block = section.split(&format!("```{language}\n")).nth(1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// Probes the server through the proxy from another address, which the server must log. Returns the running proxy.
fn assert_proxied(server: &mut Server, mut proxy: Command, port: &str, target: &[&str]) -> Terminated {
    let running = Terminated(proxy.spawn().expect("the proxy of the Debian package"));
    poll_until("the proxy", || TcpStream::connect(format!("127.0.0.1:{port}")).ok());
    let options = ["--bind", "127.0.0.2", "--count", "10", "--interval", "20ms", "--max-loss", "0%"];
    let output = run(&[&["probe"], target, &options].concat(), |_| {});
    assert_eq!(output.code, 0, "{output:?}");
    server.line_starting_with("signaling: connection opened conn=0 source=127.0.0.2");
    running
}

#[test]
#[ignore = "needs nginx: .ci/full"]
fn documented_nginx_configuration_forwards_websocket_and_addresses() {
    let authority = Authority::new();
    let pair = authority.certify();
    let mut server = Server::start_signaling(&["--trust-proxy", "--heartbeat-interval", "1s"]);
    let port = free_port().to_string();
    let block = documented("nginx")
        .replace("proxy_read_timeout 1d", "proxy_read_timeout 4s")
        .replace("listen 443", &format!("listen 127.0.0.1:{port}"))
        .replace("127.0.0.1:8080", &server.address.to_string())
        .replace("/etc/nginx/rooms.example.org.pem", pair.cert.to_str().unwrap())
        .replace("/etc/nginx/rooms.example.org.key", pair.key.to_str().unwrap());
    let file = authority.file("nginx.conf");
    let pid_file = authority.file("nginx.pid");
    let context = format!("daemon off; pid {}; error_log stderr; events {{}}", pid_file.display());
    fs::write(&file, format!("{context}\nhttp {{ access_log off;\n{block}}}\n")).unwrap();
    let mut nginx = Command::new("nginx");
    nginx.arg("-c").arg(&file);
    let (url, ca) = (format!("wss://127.0.0.1:{port}"), authority.own());
    let proxy = assert_proxied(&mut server, nginx, &port, &[&url, "--ca", ca.to_str().unwrap()]);
    // A registered echo server is a silent member of a jamjam room.
    let _member = Server::start(&["--signaling-url", &url, "--ca", ca.to_str().unwrap()]);
    server.line_starting_with("signaling: member joined");
    let uptime = || get(&server, "/health").json()["uptime"].as_f64().unwrap();
    let joined = uptime();
    poll_until("three times the time-out of nginx", || (uptime() >= joined + 12.0).then_some(()));
    drop(proxy);
    let lines = server.stop("TERM").lines;
    let opened = lines.iter().filter(|line| line.contains("connection opened")).count();
    assert_eq!(opened, 2, "the probe and the member: {lines:#?}");
}

#[test]
#[ignore = "needs Caddy: .ci/full"]
fn documented_caddy_command_forwards_websocket_and_addresses() {
    let mut server = Server::start_signaling(&["--trust-proxy"]);
    let port = free_port().to_string();
    let line = documented("sh")
        // Without a name, Caddy obtains no certificate.
        .replace("rooms.example.org", &format!(":{port}"))
        .replace("127.0.0.1:8080", &server.address.to_string());
    let folder = tempfile::tempdir().unwrap();
    let mut words = line.split_whitespace();
    let mut caddy = Command::new(words.next().unwrap());
    caddy.args(words).env("HOME", folder.path());
    assert_proxied(&mut server, caddy, &port, &[&format!("ws://127.0.0.1:{port}")]);
}
