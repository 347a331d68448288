//! What the system shows of this process, and what it holds.

use std::ffi::CString;

use serde::Serialize;
use utoipa::ToSchema;

/// Makes `pgrep NAME` find this process, where the system lets a process choose (Linux). To be called on the main thread.
pub fn name(name: &str) {
    #[cfg(target_os = "linux")]
    if let Ok(name) = CString::new(name) {
        // A nicety: without it the process is found by its file name.
        let _ = rustix::thread::set_name(&name);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = CString::new(name);
}

/// Asks for as many open files as the system lets this process have (Linux; elsewhere nothing happens): each connection is one.
pub fn raise_descriptor_limit() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // Refused, it stays as it was, and who is too many waits.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// What this process holds.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Open files, sockets included.
    pub open_files: u64,
}

/// What this process holds now; `None` where the system does not tell (other than Linux).
pub fn resources() -> Option<Resources> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
    let open_files = match std::fs::metadata("/proc/self/fd").ok()?.len() {
        // Before Linux 6.2 they have to be counted, and the folder itself is one of them while that is done.
        0 => std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64,
        known => known,
    };
    Some(Resources { rss_bytes: kibibytes << 10, open_files })
}
