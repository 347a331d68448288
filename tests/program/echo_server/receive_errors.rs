//! Receive errors of the portable driver. On Windows, each datagram to a departed client causes one.

use std::fs;

use test_support::server::{Client, Server, audio, can_record_system_calls, poll_until, record_system_calls};

#[test]
fn repeated_receive_errors_cause_pauses_but_do_not_end_the_server() {
    if !can_record_system_calls() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let server = Server::start_with(&["--host", "127.0.0.1", "-d", "0", "--driver", "portable"], |command| {
        let fault = "inject=recvfrom:error=ECONNRESET:when=1..40";
        record_system_calls(command, &record, &["-e", "trace=recvfrom,clock_nanosleep", "-e", fault]);
    });
    let client = Client::connect(server.address);
    assert_eq!(client.exchange(&audio(1, 64)), audio(1, 64));
    // The pauses follow the 16th and the 32nd error.
    let pauses = poll_until("the whole record", || {
        let record = fs::read_to_string(&record).unwrap();
        let before = record.rsplit_once("(INJECTED)")?.0;
        let pauses =
            before.lines().filter_map(|line| Some(line.split_once(" clock_nanosleep(")?.1.split_once("tv_nsec=")?.1));
        let pauses: Vec<String> = pauses.map(|rest| rest.split('}').next().unwrap_or_default().to_owned()).collect();
        (before.matches("(INJECTED)").count() == 39).then_some(pauses)
    });
    assert_eq!(pauses, ["1000000", "2000000"]);
}
