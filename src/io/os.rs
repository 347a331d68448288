//! Services of the operating system: process name, limits and resources, and random numbers.

use std::array;
use std::ffi::CStr;
use std::hash::{BuildHasher, RandomState};
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;

use rustls::crypto::ring;
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// Sets the name that `ps` and `pgrep` show (Linux only). Must be called on the main thread.
pub fn set_process_name(name: &CStr) {
    // Not essential: if this fails, the process keeps the name of its executable.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_name(name);
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

/// Raises the limit of open files to the maximum (Linux only). Each connection needs an open file.
pub fn raise_descriptor_limit() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // If this call fails, the old limit still applies. Connections beyond the limit wait until other connections close.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// The limit of open files; `None` if there is none, or on systems other than Linux.
pub fn descriptor_limit() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(target_os = "linux"))]
    None
}

/// The number of columns of the terminal behind `stream` (Linux only); `None` if there is no terminal.
#[cfg(target_os = "linux")]
pub fn terminal_width(stream: &impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// The number of columns of the terminal behind `stream` (Linux only); `None` if there is no terminal.
#[cfg(not(target_os = "linux"))]
pub fn terminal_width<T>(_: &T) -> Option<usize> {
    None
}

/// Whether this process is in the foreground of the terminal behind standard error (detected only on Linux). A background job of a shell
/// is not. A terminal that does not control this process has no jobs, so every process is in its foreground.
pub fn is_stderr_foreground() -> bool {
    #[cfg(target_os = "linux")]
    {
        let foreground = rustix::termios::tcgetpgrp(std::io::stderr());
        foreground.is_err() || foreground == Ok(rustix::process::getpgrp())
    }
    #[cfg(not(target_os = "linux"))]
    true
}

/// Whether the terminal supports color and cursor sequences, according to the environment variable TERM. Windows does not set it.
pub fn terminal_has_sequences() -> bool {
    std::env::var_os("TERM").map_or(cfg!(windows), |name| !name.is_empty() && name != "dumb")
}

/// Whether this process ignores SIGHUP, as under `nohup`. Known only on Linux; other systems count as ignoring it.
pub fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_none_or(|mask| mask & 1 != 0)
}

/// The name of this host. On systems other than Linux, the name comes from the environment, which may lack it.
pub fn host_name() -> Option<String> {
    let name = if cfg!(target_os = "linux") {
        std::fs::read_to_string("/proc/sys/kernel/hostname").ok()
    } else {
        ["COMPUTERNAME", "HOSTNAME"].into_iter().find_map(|variable| std::env::var(variable).ok())
    };
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Resources used by this process.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessResources {
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Open files including sockets.
    pub open_files: u64,
}

/// Resources used by this process now; `None` on systems other than Linux.
pub fn process_resources() -> Option<ProcessResources> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
    let open_files = match std::fs::metadata("/proc/self/fd").ok()?.len() {
        // Linux before 6.2 reports 0 here, so the entries must be counted. One entry is subtracted: the descriptor of the folder
        // itself, which is open only for the count.
        0 => std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64,
        count => count,
    };
    Some(ProcessResources { rss_bytes: kibibytes << 10, open_files })
}

/// Returns random numbers that cannot be predicted. Each number is a hash that std computes with the random keys of a
/// new hash map.
pub fn random_u64s<const N: usize>() -> [u64; N] {
    array::from_fn(|_| RandomState::new().hash_one(()))
}

/// Returns random bytes for a secret key.
///
/// # Panics
/// Panics if the system provides no random numbers. Then, no connection over TLS is possible either.
pub fn random_secret() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    ring::default_provider().secure_random.fill(&mut *bytes).expect("the system provides random numbers");
    bytes
}
