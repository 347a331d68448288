//! Runs the transcripts in `fixtures/signaling` on real sockets, with and without TLS. Each transcript has its own server.

use std::sync::Arc;

use rustls::ClientConfig;
use test_support::certificate::{Authority, trusting};
use test_support::server::Server;
use test_support::sockets::Sockets;
use test_support::transcript_files::{DIALECTS, run_on_sockets};

/// Starts a server with these options and those of a transcript.
fn start(options: &[&str], rooms: &[&str], tls: Option<&Arc<ClientConfig>>) -> (Sockets, Server) {
    let server = Server::start_signaling(&[&super::SECRET, options, rooms].concat());
    (Sockets::new(server.address, tls.cloned()), server)
}

fn assert_all_pass(options: &[&str], tls: Option<&Arc<ClientConfig>>) {
    for (dialect, minimum) in DIALECTS {
        let complete = run_on_sockets(dialect, |_| true, |rooms| start(options, rooms, tls));
        assert!(complete >= minimum, "{complete} transcripts of {dialect} are complete");
    }
}

#[test]
fn every_transcript_passes_over_plain_sockets() {
    assert_all_pass(&[], None);
}

#[test]
fn every_transcript_passes_under_tls() {
    let authority = Authority::new();
    assert_all_pass(&authority.certify().options(), Some(&trusting(&authority.own())));
}

#[test]
fn reset_connection_is_handled_like_a_closed_one() {
    let authority = Authority::new();
    let pair = authority.certify();
    for (options, tls) in [(&[][..], None), (&pair.options(), Some(trusting(&authority.own())))] {
        for dialect in ["jamjam", "webrtc", "control_surface"] {
            let with_cuts = |transcript: &str| transcript.contains(" is cut");
            let complete = run_on_sockets(dialect, with_cuts, |rooms| {
                let (mut sockets, server) = start(options, rooms, tls.as_ref());
                sockets.reset = true;
                (sockets, server)
            });
            assert!(complete > 0, "{dialect}");
        }
    }
}
