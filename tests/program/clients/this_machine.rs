//! `doctor` on this machine. Other programs and the kernel's files show the expected values.

use std::net::UdpSocket;
use std::process::{Command, Stdio};

use serde_json::Value;
use test_support::client::{document, program};
use test_support::server::{can_record_system_calls, record_system_calls};

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
}

/// Standard output of a shell command, without the final line feed.
fn shell(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn this_machine_matches_what_other_programs_show() {
    let output = program::run("doctor --json");
    assert_eq!(output.stderr, "");
    let report = document::valid(&output.stdout);
    assert_eq!(output.code, i32::from(report["status"] == "invalid"), "{report:#}");

    let clock = shell("cat /sys/devices/system/clocksource/clocksource0/current_clocksource");
    if !clock.is_empty() {
        assert_eq!(check(&report, "clock_source")["figures"]["current"], clock);
    }
    let buffer = &check(&report, "receive_buffer")["figures"];
    assert_eq!(buffer["rmem_max_bytes"].to_string(), shell("cat /proc/sys/net/core/rmem_max"));
    assert_eq!(buffer["requested_bytes"], 8 << 20);
    let governors = shell("cat /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor 2>/dev/null | wc -l");
    let groups = check(&report, "cpu_frequency")["figures"]["governors"].as_array().unwrap();
    let processors: u64 = groups.iter().map(|group| group["processors"].as_u64().unwrap()).sum();
    assert_eq!(processors.to_string(), governors);

    // `ip` shows the same addresses.
    let shown = shell(
        "ip -o addr show up 2>/dev/null | awk '{ sub(\"/.*\", \"\", $4); print $2, $4 }' | grep -v -e ' 127' -e ' ::1$' | sort",
    );
    let mut found: Vec<String> = check(&report, "addresses")["figures"]["addresses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {}", one["interface"].as_str().unwrap(), one["address"].as_str().unwrap()))
        .collect();
    found.sort();
    if !shown.is_empty() {
        assert_eq!(found.join("\n"), shown);
    }

    for name in ["timer_error", "send_call"] {
        let figures = &check(&report, name)["figures"];
        let [p50, p99, max] = ["p50_us", "p99_us", "max_us"].map(|figure| figures[figure].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p99 && p99 <= max && max < 10e6, "{figures}");
    }
    assert_eq!(check(&report, "send_call")["figures"]["count"], 600);
}

/// Runs the checks under strace. Returns the exit code and the report.
fn run_under_strace(options: &[&str]) -> Option<(i32, Value)> {
    if !can_record_system_calls() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = program::command(["doctor", "--json"]);
    record_system_calls(&mut command, &folder.path().join("calls"), options);
    let output = program::start(command.stdout(Stdio::piped()).stderr(Stdio::piped())).end();
    Some((output.code, document::valid(&output.stdout)))
}

#[test]
fn delayed_system_calls_invalidate_measurements() {
    for (name, call, delay) in
        [("send_call", "sendmsg", "delay_enter=2000"), ("timer_error", "ppoll", "delay_exit=3000")]
    {
        let delay_us: f64 = delay.split_once('=').unwrap().1.parse().unwrap();
        let options = ["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{delay}")];
        let Some((code, report)) = run_under_strace(&options) else { return };
        let check = check(&report, name);
        assert_eq!((code, &check["status"]), (1, &"invalid".into()), "{report:#}");
        assert!(check["figures"]["p50_us"].as_f64().unwrap() >= delay_us, "{check:#}");
        assert!(check["remedy"].is_string());
    }
}

#[test]
fn busy_port_is_reported_with_its_process() {
    // If another program or test already uses the port, that program is found.
    let socket = UdpSocket::bind("0.0.0.0:5000");
    let report = document::valid(&program::run("doctor --json").stdout);
    let ports = check(&report, "ports");
    let port = &ports["figures"]["ports"][0];
    assert_eq!(
        (&port["protocol"], &port["port"], &port["free"]),
        (&"udp".into(), &5_000.into(), &false.into()),
        "{ports:#}"
    );
    if socket.is_ok() {
        assert_eq!(port["process_id"], std::process::id());
        assert_eq!(port["process"].as_str(), Some(shell(&format!("cat /proc/{}/comm", std::process::id())).as_str()));
        let finding = ports["finding"].as_str().unwrap();
        assert!(finding.starts_with("UDP 5000 in use by "), "{finding}");
        assert!(ports["remedy"].as_str().unwrap().contains(&format!("kill {}", std::process::id())), "{ports:#}");
    }
    assert!(ports["status"] == "warning" && ports["meaning"].as_str().unwrap().contains("echo-server"));
}
