//! A pause of the relay with SIGSTOP and SIGCONT, while datagrams arrive.

use std::fs;
use std::net::UdpSocket;
use std::thread::sleep;
use std::time::Duration;

use test_support::client::start_line;
use test_support::server::{poll_until, ready_address};

#[test]
fn pause_of_the_relay_is_in_its_log_report_and_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let [ready, junit] = ["ready.json", "relay.xml"].map(|name| folder.path().join(name));
    let [target, client] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let target_address = target.local_addr().unwrap();
    let (ready_file, report_file) = (ready.display(), junit.display());
    let line = format!("relay 127.0.0.1:0 {target_address} --ready-file {ready_file} --junit {report_file}");
    let relay = start_line(&line);
    let address = poll_until("the ready file", || ready_address(&ready));
    let mut buffer = [0; 4];
    for is_stopped in [false, true] {
        if is_stopped {
            relay.signal("STOP");
        }
        client.send_to(b"here", address).unwrap();
        if is_stopped {
            sleep(Duration::from_millis(1_300));
            relay.signal("CONT");
        }
        target.recv(&mut buffer).unwrap();
    }
    relay.signal("INT");
    let output = relay.end();
    assert_eq!(output.code, 4, "{output:?}");
    assert!(output.stderr.contains("WARN clock: did not run for "), "{output:?}");
    assert!(output.stdout.contains("\nNOT MEASURED: pauses, in which the relay did not run for "), "{output:?}");
    // A busy machine may delay the first datagram too.
    let cases = fs::read_to_string(junit).unwrap();
    assert!(cases.contains("errors=\"1\"") && cases.contains("datagrams sent over 50 ms late: "), "{cases}");
}
