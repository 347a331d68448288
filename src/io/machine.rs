//! Collects the facts about this machine for `doctor`: a short run over loopback, files of the kernel, sockets and devices.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use super::http;
use super::sound::{self, NO_DEVICES_HINT};
use super::stop::StopToken;
use super::udp::{self, Backend, BindError, DEFAULT_RECEIVE_BUFFER, DEFAULT_SPIN_PERCENT, DriverOptions};
use crate::client::{ClientNode, ProbeConfig, ProbeWorkload, RunConfig, StreamKind};
use crate::io::local_socket::LocalSocketOptions;
use crate::machine::{
    self, ClockSource, CpuFrequency, Fact, InterfaceAddress, MachineFacts, NOT_AVAILABLE, PortUse, ReceiveBuffer,
};
use crate::stats::HostTiming;

/// Number of packets of the timing run: enough for a 99th percentile, short enough to wait for.
const TIMING_PACKETS: u64 = 600;
/// Interval of the timing run: close to that of packets with 128 samples (2.67 ms).
const TIMING_INTERVAL: Duration = Duration::from_millis(2);
/// Payload of the default AUDIO packet, in bytes.
const TIMING_PAYLOAD: usize = 512;

/// Time between two displays of the progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Measures timers and send calls with the node and the driver of `probe`, on a thread of its own. Until the end, `show_progress` is called
/// every `PROGRESS_INTERVAL`.
pub fn measure_timing(stop: &StopToken, mut show_progress: impl FnMut()) -> io::Result<HostTiming> {
    // Nothing reads this socket: the kernel drops packets that do not fit its buffer.
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let destination = receiver.local_addr()?;
    let bound =
        udp::connect(destination, DEFAULT_RECEIVE_BUFFER, &LocalSocketOptions::default()).map_err(io::Error::other)?;
    let config =
        RunConfig { replies_expected: false, ..RunConfig::new(destination, StreamKind::Audio, Duration::ZERO) };
    let workload = ProbeWorkload::new(ProbeConfig {
        stream_kind: StreamKind::Audio,
        count: Some(TIMING_PACKETS),
        interval: TIMING_INTERVAL,
        payload_len: TIMING_PAYLOAD,
    });
    let node = ClientNode::new(config, workload, Box::new(()));
    let options = DriverOptions::client(DEFAULT_SPIN_PERCENT, Backend::Native, false);
    let thread = udp::spawn_node("timing", vec![bound.socket], node, stop.clone(), options)?;
    while !thread.finished_within(PROGRESS_INTERVAL) {
        show_progress();
    }
    let (_, stats) = thread.join();
    stats.result.map(|()| stats.host_timing)
}

/// The folders in which the kernel shows facts as files: `/proc` and `/sys`.
#[derive(Clone, Copy, Debug)]
pub struct KernelFiles<'a>(
    /// The folder that contains `proc` and `sys`.
    pub &'a Path,
);

impl KernelFiles<'_> {
    fn read(self, path: &str) -> Option<String> {
        Some(fs::read_to_string(self.0.join(path)).ok()?.trim().to_owned())
    }

    /// The kernel's clock source.
    pub fn clock_source(self) -> Option<ClockSource> {
        let file = |name: &str| self.read(&format!("sys/devices/system/clocksource/clocksource0/{name}"));
        let available = file("available_clocksource").unwrap_or_default();
        let available = available.split_ascii_whitespace().map(str::to_owned).collect();
        Some(ClockSource { current: file("current_clocksource")?, available })
    }

    /// The maximum receive buffer of programs without privileges, in bytes.
    pub fn max_receive_buffer(self) -> Option<u64> {
        self.read("proc/sys/net/core/rmem_max")?.parse().ok()
    }

    /// The processors, grouped by frequency scaling. Empty: the kernel does not scale frequencies.
    pub fn cpu_frequency(self) -> Option<Vec<CpuFrequency>> {
        let mut groups: Vec<CpuFrequency> = Vec::new();
        for entry in fs::read_dir(self.0.join("sys/devices/system/cpu")).ok()? {
            let name = entry.ok()?.file_name().into_string().unwrap_or_default();
            let is_processor = name.strip_prefix("cpu").is_some_and(|number| number.parse::<u32>().is_ok());
            let file = |file: &str| self.read(&format!("sys/devices/system/cpu/{name}/cpufreq/{file}"));
            let Some(governor) = is_processor.then(|| file("scaling_governor")).flatten() else { continue };
            let driver = file("scaling_driver").unwrap_or_default();
            match groups.iter_mut().find(|group| (&group.driver, &group.governor) == (&driver, &governor)) {
                Some(group) => group.processors += 1,
                None => groups.push(CpuFrequency { driver, governor, processors: 1 }),
            }
        }
        groups.sort_by(|a, b| (&a.governor, &a.driver).cmp(&(&b.governor, &b.driver)));
        Some(groups)
    }

    /// Name and id of the process that uses a local port, if this user may see them: of several, the oldest, which has started the others.
    /// `protocol` is `udp` or `tcp`.
    pub fn process_on_port(self, protocol: &str, port: u16) -> Option<(String, u32)> {
        let tables = ["", "6"].map(|version| self.read(&format!("proc/net/{protocol}{version}")).unwrap_or_default());
        let inodes =
            tables.iter().flat_map(|table| table.lines()).filter_map(|line| inode_on_port(line, protocol, port));
        let links: Vec<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
        let processes = fs::read_dir(self.0.join("proc")).ok()?.filter_map(Result::ok);
        let mut ids: Vec<u32> = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        let started = |id: u32| -> Option<u64> {
            let stat = self.read(&format!("proc/{id}/stat"))?;
            stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
        };
        ids.sort_by_cached_key(|id| (started(*id), *id));
        ids.into_iter().find_map(|id| {
            let mut files = fs::read_dir(self.0.join(format!("proc/{id}/fd"))).ok()?.filter_map(Result::ok);
            let is_open = files.any(|file| {
                fs::read_link(file.path()).is_ok_and(|link| links.iter().any(|wanted| link == Path::new(wanted)))
            });
            is_open.then(|| Some((self.read(&format!("proc/{id}/comm"))?, id))).flatten()
        })
    }
}

/// The inode of the socket in a line of `/proc/net/udp` or `tcp`, if it is bound to `port`. A TCP socket must be listening.
fn inode_on_port<'a>(line: &'a str, protocol: &str, port: u16) -> Option<&'a str> {
    const TCP_LISTEN: &str = "0A";
    let columns: Vec<&str> = line.split_ascii_whitespace().collect();
    let local_port = columns.get(1)?.rsplit_once(':')?.1;
    let is_bound =
        u16::from_str_radix(local_port, 16) == Ok(port) && (protocol == "udp" || *columns.get(3)? == TCP_LISTEN);
    columns.get(9).copied().filter(|_| is_bound)
}

/// Whether a server can bind the port on all IPv4 addresses, as our servers do by default.
fn port_use(files: KernelFiles<'_>, protocol: &'static str, port: u16, server: &'static str) -> PortUse {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let bind_error = match protocol {
        "udp" => udp::bind(address, DEFAULT_RECEIVE_BUFFER).err().map(|error| match error {
            BindError::AddrInUse(_) => "in use".to_owned(),
            other => other.to_string(),
        }),
        _ => http::bind(address).err().map(|error| match error.kind() {
            io::ErrorKind::AddrInUse => "in use".to_owned(),
            _ => error.to_string(),
        }),
    };
    let process = bind_error.as_ref().and_then(|_| files.process_on_port(protocol, port));
    PortUse { protocol, port, server, bind_error, process }
}

fn receive_buffer(files: KernelFiles<'_>) -> Fact<ReceiveBuffer> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let bound = udp::bind(address, DEFAULT_RECEIVE_BUFFER).map_err(|error| error.to_string())?;
    Ok(ReceiveBuffer {
        requested_bytes: DEFAULT_RECEIVE_BUFFER as u64,
        granted_bytes: bound.receive_buffer.ok_or(NOT_AVAILABLE)? as u64,
        rmem_max_bytes: files.max_receive_buffer(),
    })
}

fn sound_devices() -> Fact<(usize, usize)> {
    let devices = sound::list_devices().map_err(|error| error.to_string())?;
    match (devices.inputs.len(), devices.outputs.len()) {
        (0, 0) => Err(NO_DEVICES_HINT.to_owned()),
        counts => Ok(counts),
    }
}

/// The addresses of all interfaces that are up. `None` on systems other than Linux.
#[cfg(target_os = "linux")]
pub fn interface_addresses() -> Option<Vec<InterfaceAddress>> {
    use nix::net::if_::InterfaceFlags;
    let interfaces = nix::ifaddrs::getifaddrs().ok()?.filter(|one| one.flags.contains(InterfaceFlags::IFF_UP));
    let addresses = interfaces.filter_map(|one| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
        let address = v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))?;
        Some(InterfaceAddress { interface: one.interface_name, address, scope: machine::scope(address) })
    });
    Some(addresses.collect())
}

/// The addresses of all interfaces that are up. `None` on systems other than Linux.
#[cfg(not(target_os = "linux"))]
pub fn interface_addresses() -> Option<Vec<InterfaceAddress>> {
    None
}

/// Collects all facts. `timing` is the result of [`measure_timing`]. `ports` are the default ports of the servers: protocol, port and
/// command.
pub fn collect(
    files: KernelFiles<'_>,
    timing: io::Result<HostTiming>,
    ports: &[(&'static str, u16, &'static str)],
) -> MachineFacts {
    let not_available = || NOT_AVAILABLE.to_owned();
    MachineFacts {
        timing: timing.map_err(|error| format!("cannot send over loopback: {error}")),
        clock_source: files.clock_source().ok_or_else(not_available),
        receive_buffer: receive_buffer(files),
        cpu_frequency: files.cpu_frequency().ok_or_else(not_available),
        sound_devices: sound_devices(),
        ports: ports.iter().map(|(protocol, port, server)| port_use(files, protocol, *port, server)).collect(),
        addresses: interface_addresses().ok_or_else(not_available),
    }
}
