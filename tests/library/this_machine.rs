//! `doctor`: the facts read from folders like `/proc` and `/sys`, and their evaluation.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use jamjam_dev::io::machine::KernelFiles;
use jamjam_dev::machine::{
    Check, ClockSource, CpuFrequency, InterfaceAddress, MachineFacts, MachineReport, NOT_AVAILABLE, PortUse,
    ReceiveBuffer, Status, scope,
};
use jamjam_dev::stats::HostTiming;
use serde_json::{Value, json};
use test_support::client::assert_valid;
use test_support::snapshot::assert_matches;

/// Timer errors and send calls, in microseconds.
fn timing(timer_errors: &[i64], send_calls: &[i64]) -> HostTiming {
    let mut timing = HostTiming::default();
    for us in timer_errors {
        timing.timer_error.record(us * 1_000);
    }
    for us in send_calls {
        timing.send_call.record(us * 1_000);
    }
    timing
}

/// Facts without any problem.
fn good_facts() -> MachineFacts {
    MachineFacts {
        timing: Ok(timing(&[60; 100], &[8; 100])),
        clock_source: Ok(ClockSource { current: "tsc".to_owned(), available: vec!["tsc".to_owned()] }),
        receive_buffer: Ok(ReceiveBuffer {
            requested_bytes: 8 << 20,
            granted_bytes: 8 << 20,
            rmem_max_bytes: Some(8 << 20),
        }),
        cpu_frequency: Ok(vec![]),
        sound_devices: Ok((1, 2)),
        ports: vec![PortUse { protocol: "udp", port: 5_000, server: "echo-server", bind_error: None, process: None }],
        addresses: Ok(vec![address("eth0", "203.0.113.5")]),
    }
}

fn address(interface: &str, address: &str) -> InterfaceAddress {
    let address = address.parse::<IpAddr>().unwrap();
    InterfaceAddress { interface: interface.to_owned(), address, scope: scope(address) }
}

/// Evaluates the facts, and checks the JSON document. Each problem has a remedy.
fn evaluate(facts: &MachineFacts) -> MachineReport {
    let report = MachineReport::new(facts);
    assert_valid(&Value::Object(report.document().to_json()));
    for check in &report.checks {
        assert_eq!(check.remedy.is_some(), check.status > Status::Ok, "{check:?}");
    }
    report
}

fn check(report: &MachineReport, name: &str) -> Check {
    report.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("{name}: {report:?}")).clone()
}

/// The status of one check of these facts.
fn status(name: &str, facts: &MachineFacts) -> Status {
    check(&evaluate(facts), name).status
}

#[test]
fn facts_are_reported_with_meanings_and_remedies_and_pass() {
    let clock = ClockSource { current: "hpet".to_owned(), available: vec!["tsc".to_owned(), "hpet".to_owned()] };
    let buffer = ReceiveBuffer { requested_bytes: 8_388_608, granted_bytes: 212_992, rmem_max_bytes: Some(212_992) };
    let one_processor = CpuFrequency { processors: 1, ..cpu("intel_pstate", "performance") };
    let without_facts = MachineFacts {
        timing: Err("no loopback".to_owned()),
        clock_source: Err(NOT_AVAILABLE.to_owned()),
        receive_buffer: Err("no socket".to_owned()),
        cpu_frequency: Err(NOT_AVAILABLE.to_owned()),
        sound_devices: Err("built without audio devices".to_owned()),
        ports: vec![],
        addresses: Err(NOT_AVAILABLE.to_owned()),
    };
    let with_warnings = MachineFacts {
        timing: Err("cannot send: no route".to_owned()),
        clock_source: Ok(clock),
        receive_buffer: Ok(buffer),
        cpu_frequency: Ok(vec![one_processor, cpu("acpi-cpufreq", "powersave")]),
        sound_devices: Err("built without audio devices".to_owned()),
        ports: vec![],
        addresses: Ok(vec![address("lo", "127.0.0.1")]),
    };
    for (name, facts, status) in [
        ("without_problems", good_facts(), Status::Ok),
        ("with_warnings", with_warnings, Status::Warning),
        ("without_facts", without_facts, Status::Warning),
    ] {
        let report = evaluate(&facts);
        assert_eq!((report.status, report.document().head.verdict.result.exit_code()), (status, 0), "{name}");
        assert_matches(&format!("library/machine_{name}"), &report.document().text(false, false, None));
    }
}

#[test]
fn timer_errors_and_send_calls_above_1_ms_invalidate_measurements() {
    // The 99th of 100 values is the 99th percentile.
    for (late, expected, code) in [(998, Status::Ok, 0), (1_002, Status::Invalid, 1)] {
        let errors = [&[40; 98][..], &[late, 30_000]].concat();
        let report = evaluate(&MachineFacts { timing: Ok(timing(&errors, &[8])), ..good_facts() });
        let check = check(&report, "timer_error");
        assert_eq!((check.status, report.document().head.verdict.result.exit_code()), (expected, code), "{check:?}");
        // The buckets of the histogram are at most 0.1 % wide.
        let figure = |name: &str| check.figures[name].as_f64().unwrap();
        assert_eq!((figure("count"), figure("max_us")), (100.0, 30_000.0));
        for (name, exact) in [("p50_us", 40.0), ("p99_us", f64::from(late as i32))] {
            assert!((exact..=exact * 1.001).contains(&figure(name)), "{check:?}");
        }
    }
    let report = evaluate(&MachineFacts { timing: Ok(timing(&[5_000], &[8])), ..good_facts() });
    let text = report.document().text(false, false, None);
    assert!(text.contains("\nFAILED: timer_error: measurements on this machine are not valid: p50 "), "{text}");
    for (slow, expected) in [(99, Status::Ok), (102, Status::Warning), (998, Status::Warning), (1_002, Status::Invalid)]
    {
        let calls = [&[9; 98][..], &[slow, 20_000]].concat();
        let facts = MachineFacts { timing: Ok(timing(&[50], &calls)), ..good_facts() };
        assert_eq!(status("send_call", &facts), expected, "{slow}");
    }
}

#[test]
fn slow_clock_is_a_warning_and_a_coarse_clock_is_invalid() {
    for (current, available, expected, remedy) in [
        ("tsc", "tsc hpet", Status::Ok, ""),
        ("kvm-clock", "kvm-clock", Status::Ok, ""),
        ("arch_sys_counter", "arch_sys_counter", Status::Ok, ""),
        ("hpet", "hpet acpi_pm", Status::Warning, "dmesg"),
        ("acpi_pm", "hpet tsc acpi_pm", Status::Warning, "echo tsc >"),
        ("jiffies", "jiffies", Status::Invalid, "dmesg"),
        ("refined-jiffies", "refined-jiffies kvm-clock", Status::Invalid, "echo kvm-clock >"),
    ] {
        let available = available.split(' ').map(str::to_owned).collect();
        let clock_source = Ok(ClockSource { current: current.to_owned(), available });
        let check = check(&evaluate(&MachineFacts { clock_source, ..good_facts() }), "clock_source");
        assert_eq!((check.status, check.finding.as_str()), (expected, current));
        assert!(check.remedy.unwrap_or_default().contains(remedy), "{current}");
    }
}

fn cpu(driver: &str, governor: &str) -> CpuFrequency {
    CpuFrequency { driver: driver.to_owned(), governor: governor.to_owned(), processors: 4 }
}

#[test]
fn lowest_frequency_is_a_warning() {
    let [fast, slow] = ["performance", "powersave"].map(|governor| cpu("acpi-cpufreq", governor));
    for (groups, expected) in [
        (vec![fast.clone()], Status::Ok),
        (vec![cpu("acpi-cpufreq", "schedutil")], Status::Ok),
        // This governor of this driver follows the load.
        (vec![cpu("intel_pstate", "powersave")], Status::Ok),
        (vec![slow.clone()], Status::Warning),
        (vec![fast, slow], Status::Warning),
    ] {
        let facts = MachineFacts { cpu_frequency: Ok(groups), ..good_facts() };
        assert_eq!(status("cpu_frequency", &facts), expected, "{:?}", facts.cpu_frequency);
    }
}

#[test]
fn scope_of_addresses_decides_who_can_reach_this_machine() {
    for (addresses, scopes, status) in [
        (&["127.0.0.1", "::1"][..], &[][..], Status::Warning),
        (&["169.254.3.4", "fe80::1"], &["link_local", "link_local"], Status::Warning),
        (&["192.168.1.2", "10.1.2.3", "172.31.0.1", "100.64.0.1", "fd00::1"], &["private"; 5], Status::Ok),
        (&["172.32.0.1", "100.128.0.1", "2001:db8::1"], &["global"; 3], Status::Ok),
    ] {
        let addresses = addresses.iter().map(|text| address("eth0", text)).collect();
        let check = check(&evaluate(&MachineFacts { addresses: Ok(addresses), ..good_facts() }), "addresses");
        let found = check.figures["addresses"].as_array().unwrap().iter().map(|one| one["scope"].as_str().unwrap());
        assert_eq!((found.collect::<Vec<_>>().as_slice(), check.status), (scopes, status), "{check:?}");
    }
}

/// Writes files below a folder.
fn write_files(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[test]
fn kernel_files_are_read_and_may_be_missing() {
    let root = tempfile::tempdir().unwrap();
    let files = KernelFiles(root.path());
    assert!(files.clock_source().is_none() && files.cpu_frequency().is_none());
    assert_eq!((files.max_receive_buffer(), files.process_on_port("udp", 5_000)), (None, None));
    let cpu = "sys/devices/system/cpu";
    write_files(
        root.path(),
        &[
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n"),
            ("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm \n"),
            ("proc/sys/net/core/rmem_max", "212992\n"),
            // Not processors.
            (&format!("{cpu}/cpufreq/policy0/scaling_governor"), "powersave\n"),
            (&format!("{cpu}/cpuidle/current_driver"), "none\n"),
        ],
    );
    for (number, governor) in [(0, "powersave\n"), (11, "powersave\n"), (2, "performance\n")] {
        let folder = format!("{cpu}/cpu{number}/cpufreq/scaling_");
        let (own, driver) = (format!("{folder}governor"), format!("{folder}driver"));
        write_files(root.path(), &[(&own, governor), (&driver, "acpi-cpufreq\n")]);
    }
    assert_eq!(files.max_receive_buffer(), Some(212_992));
    let facts = json!([files.clock_source(), files.cpu_frequency()]);
    let group =
        |governor: &str, processors| json!({"driver": "acpi-cpufreq", "governor": governor, "processors": processors});
    let clock = json!({"current": "hpet", "available": ["tsc", "hpet", "acpi_pm"]});
    assert_eq!(facts, json!([clock, [group("performance", 1), group("powersave", 2)]]));
}

#[test]
fn process_on_a_port_is_found_by_the_inode_of_its_socket() {
    // Port 5000 is 1388 in hexadecimal; the tenth column is the inode. 0A is a listening TCP socket, and 01 a connection.
    let header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    let line = |port: &str, state: &str, inode: u32| {
        format!(
            "   1: 00000000:{port} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 2 0 0\n"
        )
    };
    let root = tempfile::tempdir().unwrap();
    write_files(
        root.path(),
        &[
            ("proc/net/udp", &format!("{header}{}{}", line("1389", "07", 77), line("1388", "07", 78))),
            ("proc/net/udp6", header),
            ("proc/net/tcp", &format!("{header}{}{}", line("1F90", "01", 79), line("1388", "0A", 80))),
            ("proc/net/tcp6", &format!("{header}{}", line("1F90", "0A", 81))),
            ("proc/self/comm", "not a number\n"),
        ],
    );
    for (id, name, inode) in
        [(7, "other", 77), (8, "its) child", 78), (12, "echo daemon", 78), (13, "client", 79), (14, "web", 81)]
    {
        // The process ids of the kernel begin again, so a child may have a smaller one.
        let stat = format!("{id} ({name}) S {}{}", "0 ".repeat(18), if id == 8 { 500 } else { 499 });
        write_files(
            root.path(),
            &[(&format!("proc/{id}/comm"), &format!("{name}\n")), (&format!("proc/{id}/stat"), &stat)],
        );
        let folder = root.path().join(format!("proc/{id}/fd"));
        fs::create_dir(&folder).unwrap();
        symlink("/dev/null", folder.join("0")).unwrap();
        symlink(format!("socket:[{inode}]"), folder.join("5")).unwrap();
    }
    let files = KernelFiles(root.path());
    assert_eq!(files.process_on_port("udp", 5_000), Some(("echo daemon".to_owned(), 12)));
    assert_eq!(files.process_on_port("tcp", 8_080), Some(("web".to_owned(), 14)));
    // The socket of TCP port 5000 belongs to a process of another user.
    assert_eq!(files.process_on_port("tcp", 5_000), None);
    assert_eq!(files.process_on_port("udp", 8_080), None);
}
