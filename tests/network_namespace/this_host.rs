//! `probe` while this host's routes and addresses change.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use test_support::client::{counts, report, start_line};
use test_support::server::{Server, add_address, in_network_namespace, ip, poll_until};

/// Probes a KEEPALIVE server at `host`, which this host reaches from `address`, and calls `change` after ten packets. Returns the report
/// and the source of the last packet that the server received.
fn probe_during(host: &str, address: &str, options: &str, change: impl FnOnce()) -> (Value, SocketAddr) {
    add_address(address.parse().unwrap());
    ip(&["route", "add", "local", host, "dev", "lo", "table", "local", "src", address]);
    let any_port = SocketAddr::new(host.parse().unwrap(), 0);
    let server = Socket::new(Domain::for_address(any_port), Type::DGRAM, None).unwrap();
    // Permits an address that only the route makes local.
    setsockopt(&server, sockopt::IpFreebind, &true).unwrap();
    server.bind(&any_port.into()).unwrap();
    let server = UdpSocket::from(server);
    server.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let target = server.local_addr().unwrap();
    let mut probe =
        start_line(&format!("probe {target} --packet keepalive -c 150 -i 5ms --timeout 5s --json {options}"));
    let (mut received, mut change, mut last_source) = (0, Some(change), target);
    let mut datagram = [0; 100];
    while probe.is_running() {
        let Ok((len, source)) = server.recv_from(&mut datagram) else { continue };
        // Fails if this host no longer has the address of the client.
        let _ = server.send_to(&datagram[..len], source);
        (received, last_source) = (received + 1, source);
        if received == 10 {
            change.take().expect("the tenth packet")();
        }
    }
    (report(&probe.end()), last_source)
}

const COUNTS: [&str; 3] = ["sent", "not_sent", "lost"];

#[test]
fn packets_that_this_host_refuses_are_named_and_not_lost() {
    in_network_namespace(|| {
        for options in ["", "--driver portable"] {
            let (report, _) = probe_during("10.7.0.1", "10.9.0.1", options, || {
                ip(&["route", "replace", "prohibit", "10.7.0.1", "table", "local"]);
            });
            let [sent, not_sent, lost] = counts(&report, "keepalive", COUNTS);
            assert_eq!(sent + not_sent, 150, "{options}: {report:#}");
            // Only packets that were sent before the change are lost, and of these, the first nine were answered.
            assert!(not_sent > 50 && lost + 9 <= sent, "{options}: {report:#}");
            // A route of type prohibit causes EACCES (ip-route(8)).
            assert_eq!(report["host_timing"]["send_errors"], json!(["EACCES: Permission denied"]), "{options}");
            ip(&["address", "del", "10.9.0.1", "dev", "lo"]);
            ip(&["route", "flush", "10.7.0.1", "table", "local"]);
        }
    });
}

/// Number of connections and datagrams of this namespace that had no route.
fn out_no_routes() -> u64 {
    let counters = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let mut ip = counters.lines().filter_map(|line| line.strip_prefix("Ip: ")).map(str::split_whitespace);
    let (names, values) = (ip.next().unwrap(), ip.next().unwrap());
    names.zip(values).find(|(name, _)| *name == "OutNoRoutes").unwrap().1.parse().unwrap()
}

#[test]
fn wait_for_waits_for_a_route_over_every_protocol() {
    in_network_namespace(|| {
        for (index, protocol) in ["udp", "ws", "moqt"].into_iter().enumerate() {
            let (host, options) = (format!("10.7.0.{}", index + 1), ["--host", "0.0.0.0"]);
            let moqt = ["--host", "0.0.0.0", "--moqt", "0.0.0.0:4443"];
            let (server, port) = match protocol {
                "ws" => (Server::start_signaling(&options), None),
                _ => (Server::start(&moqt), (protocol == "moqt").then_some(4_443)),
            };
            let before = out_no_routes();
            let target = format!("{protocol}://{host}:{}", port.unwrap_or(server.address.port()));
            let trust = if protocol == "moqt" { format!("--cert-sha256 {}", "0".repeat(64)) } else { String::new() };
            let probe = start_line(&format!("probe {target} -c 3 -i 1ms --wait-for 60s --json {trust}"));
            poll_until("an attempt without a route", || (out_no_routes() > before).then_some(()));
            add_address(host.parse().unwrap());
            let output = probe.end();
            // The rejected certificate shows that the client has connected.
            let is_connected =
                output.stderr.contains("fingerprint mismatch") || output.stdout.contains("\"reply_received\": true");
            assert!(is_connected, "{target}: {output:?}");
        }
    });
}

#[test]
fn stop_request_ends_a_blocked_name_lookup() {
    in_network_namespace(|| {
        let config = std::fs::read_to_string("/etc/resolv.conf").unwrap();
        let mut servers = config.lines().filter_map(|line| line.strip_prefix("nameserver ")?.trim().parse().ok());
        let server: IpAddr = servers.next().unwrap_or(Ipv4Addr::LOCALHOST.into());
        add_address(server);
        let silent = UdpSocket::bind((server, 53)).unwrap();
        let probe = start_line("probe host.test");
        silent.recv(&mut [0; 100]).unwrap();
        probe.signal("TERM");
        let output = probe.end();
        let error = "interrupted while connecting: cannot find an address for host `host.test`: no answer yet";
        assert_eq!((output.code, output.stderr), (143, format!("jamjam-dev: {error}\n")));
    });
}

#[test]
fn ipv6_wildcard_accepts_ipv4_if_the_system_defaults_to_ipv6_only() {
    in_network_namespace(|| {
        std::fs::write("/proc/sys/net/ipv6/bindv6only", "1").unwrap();
        let signaling = Server::start_signaling(&["--host", "::"]);
        let _echo = Server::start(&["--host", "::", "--metrics", "[::]:9464"]);
        for port in [signaling.address.port(), 9_464] {
            TcpStream::connect(("127.0.0.1", port)).unwrap();
        }
    });
}

#[test]
fn client_continues_from_the_new_address_of_this_host_unless_it_is_bound() {
    in_network_namespace(|| {
        for (host, from, to, options) in [
            ("10.7.0.1", "10.9.0.1", "10.9.0.2", ""),
            ("10.7.0.2", "10.9.0.3", "10.9.0.4", "--driver portable --bind 0.0.0.0:7123"),
            ("10.7.0.3", "10.9.0.5", "10.9.0.6", "--bind 10.9.0.5"),
            ("fd07::1", "fd09::1", "fd09::2", ""),
            ("fd07::2", "fd09::3", "fd09::4", ""),
        ] {
            let (report, last_source) = probe_during(host, from, options, || {
                add_address(to.parse().unwrap());
                ip(&["route", "replace", "local", host, "dev", "lo", "table", "local", "src", to]);
                ip(&["address", "del", from, "dev", "lo"]);
            });
            let changes = &report["host_timing"]["address_changes"];
            let [sent, not_sent, lost] = counts(&report, "keepalive", COUNTS);
            if options == format!("--bind {from}") {
                assert_eq!((changes, last_source.ip().to_string().as_str()), (&json!([]), from), "{report:#}");
                assert!(not_sent > 100, "{report:#}");
                continue;
            }
            assert_eq!(*changes, json!([{"from": from, "to": to}]), "{host} {options}: {report:#}");
            assert_eq!(last_source.ip().to_string(), to);
            assert!(!options.contains(":7123") || last_source.port() == 7_123, "{last_source}");
            assert_eq!(sent + not_sent, 150, "{host} {options}: {report:#}");
            assert!(not_sent + lost < 100, "{host} {options}: {report:#}");
        }
    });
}
