//! Signals: exit codes of `send` and `probe`, and the corresponding reports.

use test_support::client::{Server, document, start_line, together};

#[test]
fn signal_ends_a_run_with_a_partial_report_and_its_own_exit_code() {
    let lines = ["probe --count 0 --interval 1ms", "probe --count 0 --interval 1ms --packet audio", "send --tone 440"];
    // Under `nohup`, the program ignores SIGHUP.
    let hangup = (!jamjam_dev::io::os::is_hangup_ignored()).then_some(("HUP", 129, "SIGHUP"));
    let signals: Vec<_> = [("INT", 130, "SIGINT"), ("TERM", 143, "SIGTERM")].into_iter().chain(hangup).collect();
    let cases = lines.iter().flat_map(|line| signals.iter().map(move |signal| (line, *signal)));
    let cases = cases.flat_map(|(line, signal)| ["native", "portable"].map(|driver| (line, signal, driver)));
    together(cases, |(line, (signal, code, name), driver)| {
        let server = Server::correct();
        let delay = if line.contains("audio") || line.contains("tone") { "--delay 0" } else { "" };
        let program = start_line(&format!("{line} {delay} --json --to {} --driver {driver} --spin 0", server.to()));
        server.wait_for(100);
        program.signal(signal);
        let output = program.end();
        assert_eq!(output.code, code, "{line}: {output:?}");
        let report = document::report(&output);
        assert_eq!(report["interrupted"], name);
        let stream = report["evaluated_stream"].as_str().unwrap();
        let names = ["sent", "returned", "lost", "excluded", "in_flight"];
        let [sent, returned, lost, excluded, in_flight] = document::counts(&report, stream, names);
        assert!(sent >= 90 && returned + excluded > 0, "{report:#}");
        assert_eq!((lost, sent), (0, returned + excluded + in_flight), "{report:#}");
    });
}
