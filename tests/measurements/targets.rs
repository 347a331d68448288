//! `compare`: several targets.

use std::fs;
use std::time::Duration;

use roxmltree::Document;
use serde_json::Value;
use test_support::client::{ProgramOutput, Server, ServerAction, document, measured, run, start_line};

/// A host name without an address.
const UNKNOWN: &str = "no.such.host.invalid";

/// A server that answers 80 ms later.
fn slow_server() -> Server {
    Server::with_delay(Duration::from_millis(80), |_| ServerAction::Reply)
}

/// The reports and the pairs that `--json` prints.
fn documents(output: &ProgramOutput) -> (Vec<Value>, Value) {
    let mut all = document::report(output);
    let Value::Array(reports) = all["targets"].take() else { panic!("{all:#}") };
    (reports, all["pairs"].take())
}

#[test]
fn hosts_on_the_line_and_in_a_file_are_ranked() {
    measured(|| {
        let (slow, fast, folder) = (slow_server(), Server::correct(), tempfile::tempdir().unwrap());
        let [list, junit] = ["hosts.txt", "junit.xml"].map(|name| folder.path().join(name).display().to_string());
        fs::write(&list, format!("# Musicians\r\n\r\n  {}\r\n{UNKNOWN}", fast.to())).unwrap();
        let line = format!("compare {} @{list} -c 300 -i 1ms --profile voice --junit {junit}", slow.to());
        let ranked = [fast.to(), slow.to(), format!("{UNKNOWN}:5000")];

        let output = run(&format!("{line} --json"));
        assert_eq!((output.code, &*output.stderr), (1, ""), "{output:?}");
        let (reports, pairs) = documents(&output);
        let names: Vec<&str> = reports.iter().map(|report| report["target"].as_str().unwrap()).collect();
        assert_eq!(names, ranked);
        for report in &reports[..2] {
            assert_eq!((&report["interval_ms"], &report["streams"]["ping"]["sent"]), (&1.0.into(), &300.into()));
        }
        let reason = reports[2]["verdict"]["reasons"][0].as_str().unwrap();
        assert!(reason.starts_with(&format!("cannot find an address for host `{UNKNOWN}`: ")), "{reason}");
        // Ten blocks of thirty packets decide nothing, but a name without an address meets no limit.
        let results: Vec<&Value> = pairs.as_array().unwrap().iter().map(|pair| &pair["result"]).collect();
        assert_eq!(results, ["undecided", "better", "better"], "{}", output.stdout);

        let text = fs::read_to_string(&junit).unwrap();
        let xml = Document::parse(&text).unwrap();
        let cases = xml.descendants().filter(|node| node.attribute("name") == Some("target"));
        let names: Vec<&str> = cases.filter_map(|case| case.attribute("classname")).collect();
        assert_eq!(names, ranked);
    });
}

#[test]
fn exit_code_is_that_of_limits_names_and_signals() {
    measured(|| {
        let (slow, fast) = (slow_server(), Server::correct());
        let both = format!("compare {} {} -i 1ms", slow.to(), fast.to());
        for (line, code) in [
            (format!("{both} -c 20 --max-p50 10s"), 0),
            (format!("{both} -c 20 --max-p50 10ms"), 1),
            (format!("{both} -c 20 --profile lan-music"), 1),
            (format!("compare {} {UNKNOWN} -c 20 -i 1ms --max-loss 100%", fast.to()), 1),
            (format!("compare {UNKNOWN} {UNKNOWN}:1"), 3),
        ] {
            let output = run(&line);
            assert_eq!(output.code, code, "{line}: {output:?}");
        }
        let running = start_line(&format!("{both} -c 100000 --json"));
        fast.wait_for(200);
        slow.wait_for(200);
        running.signal("INT");
        let output = running.end();
        assert_eq!(output.code, 130, "{output:?}");
        let (reports, _) = documents(&output);
        assert!(reports.iter().all(|report| report["interrupted"] == "SIGINT"), "{}", output.stdout);
    });
}
