//! Runs the transcripts in `fixtures/signaling` on real sockets, with and without TLS. Each transcript has its own server.

use test_support::certificate::{Authority, trusting};
use test_support::server::Server;
use test_support::sockets::Sockets;
use test_support::transcript_files::{DIALECTS, run_on_sockets};

/// The sockets of one run are closed without a close frame where the transcript cuts a connection, those of the other are reset.
#[test]
fn every_transcript_passes_with_and_without_tls() {
    let authority = Authority::new();
    let pair = authority.certify();
    for (options, tls) in [(&[][..], None), (&pair.options(), Some(trusting(&authority.own())))] {
        for (dialect, minimum) in DIALECTS {
            let complete = run_on_sockets(
                dialect,
                |_| true,
                |rooms| {
                    let server = Server::start_signaling(&[&super::SECRET, options, rooms].concat());
                    let mut sockets = Sockets::new(server.address, tls.clone());
                    sockets.reset = tls.is_some();
                    (sockets, server)
                },
            );
            assert!(complete >= minimum, "{complete} transcripts of {dialect} are complete");
        }
    }
}
