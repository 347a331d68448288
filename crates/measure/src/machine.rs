//! `doctor`: decides from the facts that `io::machine` collects whether this machine can measure precisely. Each check has a
//! finding, its meaning, and a remedy. `docs/measuring.md` defines every figure, `docs/rules.md` the thresholds.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Value, json};

use crate::diagnosis::{Diagnosis, Severity};
use crate::document::column::{figures, json_names};
use crate::document::{Document, Head, Judgment, Outcome};
use crate::report::quantities::{format_count, format_time, micros};
use crate::report::{SEND_CALL_WARNING_US, TIMER_ERROR_WARNING_US};
use crate::verdict::Judged;
use jamjam_core::stats::{Histogram, HostTiming};

/// Timer errors or send calls (p99) above this, in microseconds, invalidate a measurement: a packet that leaves so late changes the measured
/// jitter and bursts.
const INVALID_TIMING_US: f64 = TIMER_ERROR_WARNING_US;

/// Facts about this machine. A fact is `None` if this system does not provide it.
#[derive(Debug)]
pub struct MachineFacts {
    /// Timer errors and send calls of a short run over loopback, or why it failed.
    pub timing: Result<HostTiming, String>,
    /// The kernel's clock source.
    pub clock_source: Option<ClockSource>,
    /// The receive buffer of a UDP socket, or why no socket could be opened.
    pub receive_buffer: Result<ReceiveBuffer, String>,
    /// Processors by frequency scaling. Empty: the kernel does not scale frequencies.
    pub cpu_frequency: Option<Vec<CpuFrequency>>,
    /// Numbers of input and output devices, or why there are none.
    pub sound_devices: Result<(usize, usize), String>,
    /// The default ports of the servers.
    pub ports: Vec<PortUse>,
    /// The addresses of the network interfaces.
    pub addresses: Option<Vec<InterfaceAddress>>,
}

/// The clock source of the kernel.
#[derive(Clone, Debug, Default)]
pub struct ClockSource {
    /// The clock source in use.
    pub current: String,
    /// Clock sources that can be selected.
    pub available: Vec<String>,
}

/// The receive buffer of a UDP socket, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveBuffer {
    /// The size that is requested.
    pub requested: u64,
    /// The size that the kernel granted, if it reports the size.
    pub granted: Option<u64>,
    /// The maximum for programs without privileges (`net.core.rmem_max`).
    pub system_maximum: Option<u64>,
}

/// Processors with the same frequency scaling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuFrequency {
    /// The driver, such as `intel_pstate`.
    pub driver: String,
    /// The governor, such as `performance`.
    pub governor: String,
    /// Number of processors.
    pub processors: usize,
}

/// A default port of one of our servers.
#[derive(Clone, Debug)]
pub struct PortUse {
    /// `udp` or `tcp`.
    pub protocol: &'static str,
    /// The port.
    pub port: u16,
    /// The command that listens on this port by default.
    pub server: &'static str,
    /// Why a server cannot bind the port; `None` if the port is free.
    pub bind_error: Option<String>,
    /// Name and id of the process that uses the port, if they are known.
    pub process: Option<(String, u32)>,
}

/// An address of a network interface.
#[derive(Clone, Debug)]
pub struct InterfaceAddress {
    /// The interface, such as `eth0`.
    pub interface: String,
    /// Its address.
    pub address: IpAddr,
}

/// The result of a check, in ascending order of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// This system does not provide the fact, or this build does not.
    NotAvailable,
    /// Nothing to do.
    Ok,
    /// Measurements are valid, but less precise, or a command cannot be used.
    Warning,
    /// Measurements on this machine are not valid.
    Invalid,
}

json_names! {
    Status: Status::NotAvailable, Status::Ok, Status::Warning, Status::Invalid;
}

figures! {
    /// The result of one check.
    Check {
        /// What was checked.
        @subject name: &'static str;
        /// `invalid`: measurements on this machine are not valid; `warning`: they are less precise, or a command cannot be used.
        @short status: Status;
        /// What was found.
        @short finding: String;
        /// What it means for measurements.
        @short meaning: String;
        /// What to do; null if there is nothing to do.
        @short remedy: Option<String>;
        /// The figures of the finding. Their names depend on the check.
        @json figures: Value;
    }

    /// Whether this machine can measure.
    MachineReport {
        /// The most serious status.
        @json status: Status;
        /// The checks.
        checks: Vec<Check>;
    }
}

impl MachineReport {
    /// Evaluates the facts.
    pub fn new(facts: &MachineFacts) -> Self {
        let timing = facts.timing.as_ref();
        let checks = vec![
            timing_check(
                "timer_error",
                "A sleeping program wakes up this much later than requested. Packets then leave late, and short intervals become bursts.",
                timing.map(|timing| &timing.timer_error),
                INVALID_TIMING_US,
                "close other programs, give a virtual machine more processor time, or measure from a less busy host",
            ),
            timing_check(
                "send_call",
                "The system needs this time to send one packet. Round-trip times and jitter include this time.",
                timing.map(|timing| &timing.send_call),
                SEND_CALL_WARNING_US,
                "stop packet captures, simplify the local firewall, close other programs, or measure from another host",
            ),
            clock_source(facts.clock_source.as_ref()),
            receive_buffer(&facts.receive_buffer),
            cpu_frequency(facts.cpu_frequency.as_deref()),
            sound_devices(&facts.sound_devices),
            ports(&facts.ports),
            addresses(facts.addresses.as_deref()),
        ];
        let status = checks.iter().map(|check| check.status).max().unwrap_or(Status::NotAvailable);
        Self { status, checks }
    }

    /// The report. A check whose status is `invalid` fails it.
    pub fn document(&self) -> Document {
        let judgment = |check: &Check| {
            let is_valid = check.status != Status::Invalid;
            let invalid = Some(format!("measurements on this machine are not valid: {}", check.finding));
            let (result, reason) = match check.status {
                Status::NotAvailable => (Judged::NotJudged, Some(check.finding.clone())),
                _ => (Judged::of(is_valid), invalid.filter(|_| !is_valid)),
            };
            // What this system does not provide is no reason to judge nothing.
            Judgment::of(check.name.to_owned(), "valid".to_owned(), result, reason).in_group("machine".to_owned())
        };
        let warnings = self.checks.iter().filter(|check| check.status == Status::Warning);
        let warnings = warnings.map(|check| {
            let message = format!("{}: {} {}", check.name, check.finding, check.meaning);
            Diagnosis {
                remedy: check.remedy.clone(),
                ..Diagnosis::new(Severity::Warning, check.name, SECTION, message)
            }
        });
        let mut head = Head::new("doctor", "this machine".to_owned(), self.checks.iter().map(judgment).collect());
        head.warnings = warnings.collect();
        head.verdict = Outcome { limits_set: true, ..head.verdict };
        head.headline = match (head.verdict.passed, head.warnings.len() as u64) {
            (false, _) => "measurements on this machine are not valid".to_owned(),
            (true, 0) => "measurements on this machine are valid".to_owned(),
            (true, count) => format!("measurements on this machine are valid, with {}", format_count(count, "warning")),
        };
        Document::new(head, self)
    }
}

/// The section of the documentation about this check.
const SECTION: &str = "docs/measuring.md#this-machine";

impl Check {
    /// `remedy` is for a problem.
    fn new(name: &'static str, rating: (Status, &str), finding: String, figures: Value, remedy: &str) -> Self {
        let (status, meaning) = rating;
        let remedy = (status > Status::Ok).then(|| remedy.to_owned());
        Self { name, status, finding, meaning: meaning.to_owned(), remedy, figures }
    }

    /// A check that this system or build does not support.
    fn not_available(name: &'static str, reason: &str, meaning: &str) -> Self {
        Self::new(name, (Status::NotAvailable, meaning), reason.to_owned(), Value::Null, "")
    }
}

const NOT_AVAILABLE: &str = "not available on this system";

/// A check of a histogram of times. Above `warning_us` and up to [`INVALID_TIMING_US`], there is a warning.
fn timing_check(
    name: &'static str,
    meaning: &str,
    times: Result<&Histogram, &String>,
    warning_us: f64,
    remedy: &str,
) -> Check {
    let times = match times {
        Ok(times) => times,
        Err(error) => {
            let remedy = "repair the loopback interface: ip link set lo up";
            return Check::new(name, (Status::Warning, meaning), error.clone(), Value::Null, remedy);
        }
    };
    let percentile = |p| times.percentile(p).map(micros);
    let measured = (percentile(0.5), percentile(0.99), times.max().map(micros));
    let (Some(p50_us), Some(p99_us), Some(max_us)) = measured else {
        return Check::not_available(name, "too few measurements", meaning);
    };
    let [p50, p99, max] = [p50_us, p99_us, max_us].map(format_time);
    let figures = json!({"count": times.count(), "p50_us": p50_us, "p99_us": p99_us, "max_us": max_us});
    let status = match p99_us {
        p99 if p99 > INVALID_TIMING_US => Status::Invalid,
        p99 if p99 > warning_us => Status::Warning,
        _ => Status::Ok,
    };
    Check::new(name, (status, meaning), format!("p50 {p50}, p99 {p99}, max {max}"), figures, remedy)
}

/// What a clock source of Linux means for measurements.
fn rate_clock_source(clock: &str) -> (Status, &'static str) {
    match clock {
        // These advance only with the timer interrupt.
        "jiffies" | "refined-jiffies" => {
            (Status::Invalid, "This clock advances only every 1 to 10 ms. Shorter times cannot be measured.")
        }
        // These are read through a slow device.
        "hpet" | "acpi_pm" | "pit" => (
            Status::Warning,
            "Each reading of this clock takes a microsecond or more, and packets need several readings.",
        ),
        _ => (Status::Ok, "All timestamps in a report come from this clock."),
    }
}

fn clock_source(clock: Option<&ClockSource>) -> Check {
    let name = "clock_source";
    let Some(ClockSource { current, available }) = clock else {
        let meaning = "All timestamps in a report come from the kernel's clock source.";
        return Check::not_available(name, NOT_AVAILABLE, meaning);
    };
    let remedy = match available.iter().find(|clock| rate_clock_source(clock).0 == Status::Ok) {
        Some(better) => {
            format!("as root: echo {better} > /sys/devices/system/clocksource/clocksource0/current_clocksource")
        }
        None => "`dmesg | grep -i -e tsc -e clocksource` shows why the kernel rejected faster clocks; in a virtual machine, enable the \
                 clock of the hypervisor"
            .to_owned(),
    };
    let figures = json!({"current": current, "available": available});
    Check::new(name, rate_clock_source(current), current.clone(), figures, &remedy)
}

fn receive_buffer(buffer: &Result<ReceiveBuffer, String>) -> Check {
    let name = "receive_buffer";
    let meaning =
        "Packets wait here until the program reads them. If the buffer is full, packets are dropped and count as lost.";
    let (requested, granted, system_maximum) = match buffer {
        Ok(ReceiveBuffer { requested, granted: Some(granted), system_maximum }) => (requested, granted, system_maximum),
        Ok(_) => return Check::not_available(name, NOT_AVAILABLE, meaning),
        Err(error) => return Check::not_available(name, error, meaning),
    };
    let maximum = system_maximum.map_or_else(String::new, |maximum| format!("; net.core.rmem_max is {maximum}"));
    let finding = format!("{granted} of {requested} bytes granted{maximum}");
    let figures = json!({"requested_bytes": requested, "granted_bytes": granted, "rmem_max_bytes": system_maximum});
    let status = if granted >= requested { Status::Ok } else { Status::Warning };
    let remedy = match system_maximum {
        Some(_) => format!("as root: sysctl -w net.core.rmem_max={requested}"),
        None => "increase the system's limit for receive buffers".to_owned(),
    };
    Check::new(name, (status, meaning), finding, figures, &remedy)
}

fn cpu_frequency(groups: Option<&[CpuFrequency]>) -> Check {
    let name = "cpu_frequency";
    let Some(groups) = groups else {
        let meaning = "Processors that save energy wake up later and send packets more slowly.";
        return Check::not_available(name, NOT_AVAILABLE, meaning);
    };
    let described = groups.iter().map(|CpuFrequency { driver, governor, processors }| {
        format!("{governor} ({driver}, {})", format_count(*processors as u64, "processor"))
    });
    let finding = if groups.is_empty() { "no scaling".to_owned() } else { described.collect::<Vec<_>>().join(", ") };
    // The `powersave` governor of the drivers `intel_pstate` and `amd-pstate` follows the load, but that of other drivers always selects the
    // lowest frequency.
    let is_slowest = |group: &CpuFrequency| group.governor == "powersave" && !group.driver.contains("pstate");
    let rating = if groups.iter().any(is_slowest) {
        let meaning =
            "The processors run at their lowest frequency. Timers, send calls and audio processing take longer.";
        (Status::Warning, meaning)
    } else if groups.is_empty() {
        (Status::Ok, "The kernel does not change the processors' frequency. This is usual in virtual machines.")
    } else if groups.iter().all(|group| group.governor == "performance") {
        (Status::Ok, "The processors run at their highest frequency.")
    } else {
        (Status::Ok, "The frequency follows the load. Packets after a pause may leave some microseconds later.")
    };
    let remedy = "as root: cpupower frequency-set -g performance";
    Check::new(name, rating, finding, json!({"governors": groups}), remedy)
}

fn sound_devices(devices: &Result<(usize, usize), String>) -> Check {
    let name = "sound_devices";
    let meaning = "`send --mic` needs an input device, and `send --play` an output device. `devices` lists them.";
    let (inputs, outputs) = match devices {
        Ok(counts) => *counts,
        Err(reason) => return Check::not_available(name, reason, meaning),
    };
    let finding = format!("{}, {}", format_count(inputs as u64, "input"), format_count(outputs as u64, "output"));
    Check::new(name, (Status::Ok, meaning), finding, json!({"inputs": inputs, "outputs": outputs}), "")
}

fn ports(ports: &[PortUse]) -> Check {
    let describe = |port: &PortUse| {
        let state = match (&port.bind_error, &port.process) {
            (None, _) => "free".to_owned(),
            (Some(_), Some((name, id))) => format!("in use by {name} (process {id})"),
            (Some(error), None) => error.clone(),
        };
        format!("{} {} {state}", port.protocol.to_uppercase(), port.port)
    };
    let finding = ports.iter().map(describe).collect::<Vec<_>>().join(", ");
    let figure = |port: &PortUse| {
        let (process, process_id) = port.process.as_ref().map(|(name, id)| (name, id)).unzip();
        json!({
            "protocol": port.protocol, "port": port.port, "server": port.server, "free": port.bind_error.is_none(),
            "process": process, "process_id": process_id,
        })
    };
    let figures = json!({"ports": ports.iter().map(figure).collect::<Vec<_>>()});
    let busy = || ports.iter().filter(|port| port.bind_error.is_some());
    let servers: Vec<&str> = busy().map(|port| port.server).collect();
    let blocked = format!("On its default port, this command cannot start: {}.", servers.join(", "));
    let rating = match servers.as_slice() {
        [] => (Status::Ok, "The servers can listen on their default ports."),
        _ => (Status::Warning, blocked.as_str()),
    };
    let ids: String = busy().filter_map(|port| Some(format!(" {}", port.process.as_ref()?.1))).collect();
    let kill = if ids.is_empty() { String::new() } else { format!(", or end the other program: kill{ids}") };
    Check::new("ports", rating, finding, figures, &format!("give the server another port{kill}"))
}

/// From where an address can be reached: `link_local`, `private` or `global`.
pub fn scope(address: IpAddr) -> &'static str {
    let (link_local, private) = match address {
        IpAddr::V4(address) => {
            // 100.64.0.0/10 is the range of carrier-grade NAT (RFC 6598).
            let [a, b, ..] = address.octets();
            (address.is_link_local(), address.is_private() || (a == 100 && b & 0xC0 == 64))
        }
        IpAddr::V6(address) => (address.is_unicast_link_local(), address.is_unique_local()),
    };
    match (link_local, private) {
        (true, _) => "link_local",
        (_, true) => "private",
        _ => "global",
    }
}

fn addresses(addresses: Option<&[InterfaceAddress]>) -> Check {
    let name = "addresses";
    let Some(addresses) = addresses else {
        let meaning = "Other machines reach this machine at the addresses of its network interfaces.";
        return Check::not_available(name, NOT_AVAILABLE, meaning);
    };
    let reachable: Vec<(&InterfaceAddress, &str)> =
        addresses.iter().filter(|one| !one.address.is_loopback()).map(|one| (one, scope(one.address))).collect();
    let described = reachable
        .iter()
        .map(|(one, scope)| format!("{} ({}, {})", one.address, one.interface, scope.replace('_', "-")));
    let finding = if reachable.is_empty() { "none".to_owned() } else { described.collect::<Vec<_>>().join(", ") };
    let figure = |(one, scope): &(&InterfaceAddress, &str)| json!({"address": one.address, "interface": one.interface, "scope": scope});
    let figures = json!({"addresses": reachable.iter().map(figure).collect::<Vec<_>>()});
    let has = |wanted: &str| reachable.iter().any(|(_, scope)| *scope == wanted);
    let rating = if has("global") {
        (Status::Ok, "Other machines can reach this machine at these addresses, unless a firewall drops the packets.")
    } else if has("private") {
        let meaning = "Only machines in the same network can reach these addresses. From the internet, the router must forward the port.";
        (Status::Ok, meaning)
    } else {
        (Status::Warning, "No other machine can reach this machine over a router.")
    };
    let remedy = "connect a network, or measure only this machine: --embedded, 127.0.0.1, ::1";
    Check::new(name, rating, finding, figures, remedy)
}
