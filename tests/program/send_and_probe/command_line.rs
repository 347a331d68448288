//! The command line of `send` and `probe`: positional arguments, short options and options of the local socket.

use std::net::UdpSocket;

use test_support::client::packet::{AUDIO, PING};
use test_support::client::program::run;
use test_support::client::server::Server;

use crate::send_and_probe::report;

#[test]
fn positional_argument_equals_the_option() {
    let server = Server::correct();
    for target in [server.to(), format!("--to {}", server.to())] {
        let report = report(0, &format!("probe {target} -c 3 -i 1ms"));
        assert_eq!(report["streams"]["ping"]["sent"], 3, "{target}");
    }
    assert_eq!(server.received_of(PING).len(), 6);

    let file = "fixtures/audio/speech-16bit-mono-48k.wav";
    for source in [file.to_owned(), format!("--wav {file}")] {
        report(0, &format!("send {source} -c 20 --delay 0 --to {}", server.to()));
    }
    assert_eq!(server.received_of(AUDIO).len(), 40);
}

#[test]
fn count_and_duration_limit_the_packets_of_a_probe() {
    let server = Server::correct();
    let sent =
        |options: &str| report(0, &format!("probe {} {options}", server.to()))["streams"]["ping"]["sent"].clone();
    assert_eq!(sent("--duration 100ms -i 5ms"), 20);
    assert_eq!(sent("--duration 1s -i 5ms -c 4"), 4, "the first limit applies");
    // The default count gives a p99 even with 20 % loss.
    let report = report(0, "probe --embedded --delay 0 --loss 20% --seed 1 -i 1ms --timeout 100ms");
    let ping = &report["streams"]["ping"];
    assert_eq!(ping["sent"], 150);
    assert!(ping["lost"].as_u64() > Some(20) && ping["rtt_p99_us"].is_number(), "{ping}");
}

#[test]
fn quiet_run_prints_only_the_report() {
    let server = Server::correct();
    let output =
        run(&format!("send --tone 440 --duration 20ms --frame-size 1000 --delay 0 --quiet --to {}", server.to()));
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:?}");
    assert!(output.stdout.starts_with("send to"), "{output:?}");
}

#[test]
fn bound_address_and_port_are_the_source_of_the_packets() {
    let free = UdpSocket::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let source = |bind: &str| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        run(&format!("probe {} -c 1 --bind {bind} --timeout 10ms", socket.local_addr().unwrap()));
        socket.recv_from(&mut [0; 100]).unwrap().1
    };
    assert_eq!(source(&free.to_string()), free);
    assert_eq!(source("127.0.0.3").ip().to_string(), "127.0.0.3");
}

#[test]
fn ip_version_selects_the_address_of_a_name() {
    let [v4, v6] = ["127.0.0.1:0", "[::1]:0"].map(|address| UdpSocket::bind(address).unwrap());
    let mut datagram = [0; 100];
    let cases = [
        ("--bind 0.0.0.0", "localhost", &v4),
        ("--bind 127.0.0.1", "localhost", &v4),
        ("--bind ::", "[::1]", &v6),
        ("--bind ::1", "[::1]", &v6),
    ];
    for (option, host, socket) in cases {
        let port = socket.local_addr().unwrap().port();
        let output = run(&format!("probe {host}:{port} {option} -c 1 --timeout 10ms"));
        assert_eq!(output.code, 1, "{output:?}");
        socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let from = socket.recv_from(&mut datagram).unwrap().1;
        assert_eq!(from.is_ipv6(), socket.local_addr().unwrap().is_ipv6(), "{option}");
    }
}

#[test]
fn version_names_commit_date_target_and_features() {
    let long = run("--version");
    let lines: Vec<&str> = long.stdout.lines().collect();
    assert!(long.code == 0 && lines.len() == 5, "{long:?}");
    for (line, name) in lines.iter().zip(["jamjam-dev ", "commit: ", "date: ", "target: ", "features: "]) {
        assert!(line.strip_prefix(name).is_some_and(|value| !value.is_empty()), "{long:?}");
    }
    assert_eq!(run("-V").stdout.trim_end(), lines[0]);
}
