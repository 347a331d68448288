//! `jamjam-dev signaling-server` as a process on real sockets.

mod broadcast_http;
mod broadcast_transcripts;
mod certificate_reload;
mod connections;
mod console_operations;
mod control_surface;
mod control_surface_transcripts;
mod drain;
mod freed_memory;
mod http;
mod log_lines;
mod mixed_dialects;
mod newer_clients;
mod options;
mod reverse_proxies;
mod three_processes;
mod tls;
mod transcripts;
mod webrtc;
mod webrtc_auth;

use test_support::server::process::run;

/// For each item of `variables`, starts a server with only this environment variable. Each server must exit with a usage error that names
/// its variable.
fn assert_variables_are_rejected(variables: &[(&str, &str)]) {
    for (variable, value) in variables {
        let output = run(&["signaling-server", "--host", "127.0.0.1"], |command| {
            command.env(variable, value);
        });
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{variable}: {stderr}");
        let first = stderr.lines().next().unwrap_or_default();
        assert!(first.contains(&format!("({variable} in the environment)")), "{variable}: {stderr}");
    }
}
