//! What the system shows of this process.

use std::ffi::CString;

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
