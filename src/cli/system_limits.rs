//! What to do if the system provides no more threads or files.

use crate::io::stop::StopToken;

/// What to do if the text of an error or panic shows that the system provides no more threads (EAGAIN) or files (EMFILE).
pub fn advice(error: &str) -> Option<&'static str> {
    let is_start = ["cannot start", "cannot listen", "thread"].iter().any(|word| error.contains(word));
    if is_start && error.contains("Resource temporarily unavailable") {
        return Some(". Raise the limit on threads: TasksMax= of the unit, pids_limit of the container, or ulimit -u");
    }
    let is_limit = error.contains("Too many open files");
    is_limit.then_some(". Raise the limit on open files: LimitNOFILE= of the unit, or ulimit -n")
}

/// The message with which the process exits after a panic with this text. `None` if it goes on: a server that has started can, because such a
/// panic, or one whose text only looks like it, concerns a single connection.
pub fn failed_start(panic: &str, stop: &StopToken) -> Option<String> {
    advice(panic).filter(|_| !stop.is_serving()).map(|advice| format!("cannot start{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_at_a_system_limit_ends_a_start_but_no_server() {
        let stop = StopToken::default();
        let ends = |panic: &str| failed_start(panic, &stop).map(|message| message.contains("LimitNOFILE="));
        let no_files = "Os { code: 24, message: \"Too many open files\" }";
        let no_threads = "failed to spawn thread: Resource temporarily unavailable";
        assert_eq!([no_files, no_threads, "index out of bounds"].map(ends), [Some(true), Some(false), None]);
        stop.set_serving();
        assert_eq!([no_files, no_threads, "a name with \"Too many open files\""].map(ends), [None; 3]);
    }
}
