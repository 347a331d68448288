//! `doctor`: decides from the facts that `io::machine` collects whether this machine can measure precisely. Each check has a
//! finding, its meaning, and a remedy. `docs/measuring.md` defines every figure, `docs/rules.md` the thresholds.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Value, json};

use crate::diagnosis::{Diagnosis, Severity};
use crate::document::column::{figures, json_types};
use crate::document::{Document, Head, Judgment};
use crate::report::quantities::{format_count, format_time, micros};
use crate::report::{SEND_CALL_WARNING_US, TIMER_ERROR_WARNING_US};
use crate::verdict::Judged;
use jamjam_core::stats::{Histogram, HostTiming};

/// Timer errors or send calls (p99) above this, in microseconds, invalidate a measurement: a packet that leaves so late changes the measured
/// jitter and bursts.
const INVALID_TIMING_US: f64 = TIMER_ERROR_WARNING_US;

/// A fact, or why it is missing.
pub type Fact<T> = Result<T, String>;

/// Why a fact is missing that other systems provide.
pub const NOT_AVAILABLE: &str = "not available on this system";

/// Facts about this machine, or why one is missing.
#[derive(Debug)]
pub struct MachineFacts {
    /// Timer errors and send calls of a short run over loopback.
    pub timing: Fact<HostTiming>,
    /// The kernel's clock source.
    pub clock_source: Fact<ClockSource>,
    /// The receive buffer of a UDP socket.
    pub receive_buffer: Fact<ReceiveBuffer>,
    /// Processors by frequency scaling. Empty: the kernel does not scale frequencies.
    pub cpu_frequency: Fact<Vec<CpuFrequency>>,
    /// Numbers of input and output devices.
    pub sound_devices: Fact<(usize, usize)>,
    /// The default ports of the servers.
    pub ports: Vec<PortUse>,
    /// The addresses of the network interfaces.
    pub addresses: Fact<Vec<InterfaceAddress>>,
}

/// The clock source of the kernel.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClockSource {
    /// The clock source in use.
    pub current: String,
    /// Clock sources that can be selected.
    pub available: Vec<String>,
}

/// The receive buffer of a UDP socket, in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ReceiveBuffer {
    /// The size that is requested.
    pub requested_bytes: u64,
    /// The size that the kernel granted.
    pub granted_bytes: u64,
    /// The maximum for programs without privileges (`net.core.rmem_max`).
    pub rmem_max_bytes: Option<u64>,
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
#[derive(Clone, Debug, Serialize)]
pub struct InterfaceAddress {
    /// The interface, such as `eth0`.
    pub interface: String,
    /// Its address.
    pub address: IpAddr,
    /// From where it can be reached: [`scope`].
    pub scope: &'static str,
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

json_types! {
    Status => {"enum": [Status::NotAvailable, Status::Ok, Status::Warning, Status::Invalid]};
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
    #[rustfmt::skip]
    pub fn new(facts: &MachineFacts) -> Self {
        let timing = facts.timing.as_ref();
        let checks = vec![
            Check::timing("timer_error", "A sleeping program wakes up this much later than requested. Packets then leave late, and short intervals \
                become bursts.", timing.map(|timing| &timing.timer_error), INVALID_TIMING_US,
                "close other programs, give a virtual machine more processor time, or measure from a less busy host"),
            Check::timing("send_call", "The system needs this time to send one packet. Round-trip times and jitter include this time.",
                timing.map(|timing| &timing.send_call), SEND_CALL_WARNING_US,
                "stop packet captures, simplify the local firewall, close other programs, or measure from another host"),
            Check::new("clock_source", "All timestamps in a report come from the kernel's clock source.", facts.clock_source.as_ref(), clock_source),
            Check::new("receive_buffer", "Packets wait here until the program reads them. If the buffer is full, packets are dropped and count as \
                lost.", facts.receive_buffer.as_ref(), receive_buffer),
            Check::new("cpu_frequency", "Processors that save energy wake up later and send packets more slowly.", facts.cpu_frequency.as_deref(),
                cpu_frequency),
            Check::new("sound_devices", "`send --mic` needs an input device, and `send --play` an output device. `devices` lists them.",
                facts.sound_devices.as_ref(), sound_devices),
            Check::new("ports", "The servers can listen on their default ports.", Ok(&*facts.ports), ports),
            Check::new("addresses", "Other machines reach this machine at the addresses of its network interfaces.", facts.addresses.as_deref(),
                addresses),
        ];
        let status = checks.iter().map(|check| check.status).max().unwrap_or(Status::NotAvailable);
        Self { status, checks }
    }

    /// The report. A check whose status is `invalid` fails it.
    pub fn document(&self) -> Document {
        let judgment = |check: &Check| {
            let (result, reason) = match check.status {
                Status::NotAvailable => (Judged::NotJudged, Some(check.finding.clone())),
                Status::Invalid => (Judged::Exceeded, Some(format!("{INVALID}: {}", check.finding))),
                _ => (Judged::Met, None),
            };
            // What this system does not provide is no reason to judge nothing.
            let judgment = Judgment::of(check.name.to_owned(), "valid".to_owned(), result, reason);
            Judgment { group: "machine".to_owned(), ..judgment }
        };
        let warning = |check: &Check| {
            let message = format!("{}: {} {}", check.name, check.finding, check.meaning);
            let diagnosis = Diagnosis::new(Severity::Warning, check.name, SECTION, message);
            Diagnosis { remedy: check.remedy.clone(), ..diagnosis }
        };
        let warnings = self.checks.iter().filter(|check| check.status == Status::Warning).map(warning);
        let mut head = Head::new("doctor", "this machine".to_owned(), self.checks.iter().map(judgment).collect());
        head.warnings = warnings.collect();
        head.headline = match (head.verdict.passed, head.warnings.len() as u64) {
            (false, _) => INVALID.to_owned(),
            (true, 0) => "measurements on this machine are valid".to_owned(),
            (true, count) => format!("measurements on this machine are valid, with {}", format_count(count, "warning")),
        };
        Document::new(head, self)
    }
}

const INVALID: &str = "measurements on this machine are not valid";

/// The section of the documentation about this check.
const SECTION: &str = "docs/measuring.md#this-host";

/// Status, finding, its meaning if that is not the meaning of the check, figures, and a remedy for a problem.
type Rating = (Status, String, Option<String>, Value, String);

impl Check {
    /// A check of `fact`, or why there is none.
    fn new<T: ?Sized>(
        name: &'static str,
        meaning: &str,
        fact: Result<&T, &String>,
        rate: impl FnOnce(&T) -> Rating,
    ) -> Self {
        let none = |reason: &String| (Status::NotAvailable, reason.clone(), None, Value::Null, String::new());
        let (status, finding, other_meaning, figures, remedy) = fact.map_or_else(none, rate);
        let meaning = other_meaning.unwrap_or_else(|| meaning.to_owned());
        Self { name, status, finding, meaning, remedy: (status > Status::Ok).then_some(remedy), figures }
    }

    /// A check of times. Above `warning_us` and up to [`INVALID_TIMING_US`], there is a warning.
    fn timing(
        name: &'static str,
        meaning: &str,
        times: Result<&Histogram, &String>,
        warning_us: f64,
        remedy: &str,
    ) -> Self {
        let is_empty = times.is_ok_and(|times| times.count() == 0);
        let fact = if is_empty { Err("too few measurements".to_owned()) } else { Ok(times) };
        Self::new(name, meaning, fact.as_ref(), |times| match times {
            Ok(times) => {
                let measured = [times.percentile(0.5), times.percentile(0.99), times.max()];
                let [p50_us, p99_us, max_us] = measured.map(|ns| ns.map_or(0.0, micros));
                let [p50, p99, max] = [p50_us, p99_us, max_us].map(format_time);
                let figures = json!({"count": times.count(), "p50_us": p50_us, "p99_us": p99_us, "max_us": max_us});
                let status = match p99_us {
                    p99 if p99 > INVALID_TIMING_US => Status::Invalid,
                    p99 if p99 > warning_us => Status::Warning,
                    _ => Status::Ok,
                };
                (status, format!("p50 {p50}, p99 {p99}, max {max}"), None, figures, remedy.to_owned())
            }
            Err(error) => {
                let remedy = "repair the loopback interface: ip link set lo up".to_owned();
                (Status::Warning, String::clone(error), None, Value::Null, remedy)
            }
        })
    }
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

#[rustfmt::skip]
fn clock_source(clock: &ClockSource) -> Rating {
    let remedy = match clock.available.iter().find(|clock| rate_clock_source(clock).0 == Status::Ok) {
        Some(better) => format!("as root: echo {better} > /sys/devices/system/clocksource/clocksource0/current_clocksource"),
        None => "`dmesg | grep -i -e tsc -e clocksource` shows why the kernel rejected faster clocks; in a virtual machine, enable the clock of the \
            hypervisor".to_owned(),
    };
    let (status, meaning) = rate_clock_source(&clock.current);
    (status, clock.current.clone(), Some(meaning.to_owned()), json!(clock), remedy)
}

fn receive_buffer(buffer: &ReceiveBuffer) -> Rating {
    let ReceiveBuffer { requested_bytes: requested, granted_bytes: granted, rmem_max_bytes: maximum } = buffer;
    let status = if granted >= requested { Status::Ok } else { Status::Warning };
    let remedy = match maximum {
        Some(_) => format!("as root: sysctl -w net.core.rmem_max={requested}"),
        None => "increase the system's limit for receive buffers".to_owned(),
    };
    let maximum = maximum.map_or_else(String::new, |maximum| format!("; net.core.rmem_max is {maximum}"));
    (status, format!("{granted} of {requested} bytes granted{maximum}"), None, json!(buffer), remedy)
}

#[rustfmt::skip]
fn cpu_frequency(groups: &[CpuFrequency]) -> Rating {
    let describe = |CpuFrequency { driver, governor, processors }: &_| {
        format!("{governor} ({driver}, {})", format_count(*processors as u64, "processor"))
    };
    let finding = if groups.is_empty() { "no scaling".to_owned() } else { joined(groups, describe) };
    // The `powersave` governor of the drivers `intel_pstate` and `amd-pstate` follows the load, but that of other drivers always selects the
    // lowest frequency.
    let is_slowest = |group: &CpuFrequency| group.governor == "powersave" && !group.driver.contains("pstate");
    let (status, meaning) = match () {
        () if groups.iter().any(is_slowest) =>
            (Status::Warning, "The processors run at their lowest frequency. Timers, send calls and audio processing take longer."),
        () if groups.is_empty() => (Status::Ok, "The kernel does not change the processors' frequency. This is usual in virtual machines."),
        () if groups.iter().all(|group| group.governor == "performance") => (Status::Ok, "The processors run at their highest frequency."),
        () => (Status::Ok, "The frequency follows the load. Packets after a pause may leave some microseconds later."),
    };
    let remedy = "as root: cpupower frequency-set -g performance".to_owned();
    (status, finding, Some(meaning.to_owned()), json!({"governors": groups}), remedy)
}

fn sound_devices((inputs, outputs): &(usize, usize)) -> Rating {
    let finding = format!("{}, {}", format_count(*inputs as u64, "input"), format_count(*outputs as u64, "output"));
    (Status::Ok, finding, None, json!({"inputs": inputs, "outputs": outputs}), String::new())
}

fn ports(ports: &[PortUse]) -> Rating {
    let describe = |port: &PortUse| {
        let state = match (&port.bind_error, &port.process) {
            (None, _) => "free".to_owned(),
            (Some(_), Some((name, id))) => format!("in use by {name} (process {id})"),
            (Some(error), None) => error.clone(),
        };
        format!("{} {} {state}", port.protocol.to_uppercase(), port.port)
    };
    let figure = |port: &PortUse| {
        let (process, process_id) = port.process.clone().unzip();
        json!({"protocol": port.protocol, "port": port.port, "server": port.server, "free": port.bind_error.is_none(),
               "process": process, "process_id": process_id})
    };
    let busy: Vec<_> = ports.iter().filter(|port| port.bind_error.is_some()).collect();
    let servers = joined(&busy, |port| port.server.to_owned());
    let blocked = format!("On its default port, this command cannot start: {servers}.");
    let (status, meaning) = if busy.is_empty() { (Status::Ok, None) } else { (Status::Warning, Some(blocked)) };
    let ids: String = busy.iter().filter_map(|port| Some(format!(" {}", port.process.as_ref()?.1))).collect();
    let kill = if ids.is_empty() { ids } else { format!(", or end the other program: kill{ids}") };
    let figures = json!({"ports": ports.iter().map(figure).collect::<Vec<_>>()});
    (status, joined(ports, describe), meaning, figures, format!("give the server another port{kill}"))
}

/// The descriptions of all, separated by commas.
fn joined<T>(all: &[T], describe: impl Fn(&T) -> String) -> String {
    all.iter().map(describe).collect::<Vec<_>>().join(", ")
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

#[rustfmt::skip]
fn addresses(addresses: &[InterfaceAddress]) -> Rating {
    let reachable: Vec<_> = addresses.iter().filter(|one| !one.address.is_loopback()).collect();
    let describe = |one: &&InterfaceAddress| format!("{} ({}, {})", one.address, one.interface, one.scope.replace('_', "-"));
    let finding = if reachable.is_empty() { "none".to_owned() } else { joined(&reachable, describe) };
    let has = |wanted: &str| reachable.iter().any(|one| one.scope == wanted);
    let (status, meaning) = match () {
        () if has("global") =>
            (Status::Ok, "Other machines can reach this machine at these addresses, unless a firewall drops the packets."),
        () if has("private") =>
            (Status::Ok, "Only machines in the same network can reach these addresses. From the internet, the router must forward the port."),
        () => (Status::Warning, "No other machine can reach this machine over a router."),
    };
    let remedy = "connect a network, or measure only this machine: --embedded, 127.0.0.1, ::1".to_owned();
    (status, finding, Some(meaning.to_owned()), json!({"addresses": reachable}), remedy)
}
