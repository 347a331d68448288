//! Runs the transcripts in `fixtures/signaling` on real sockets, with and without TLS. Each transcript has its own server.

use test_support::certificate::{Authority, trusting};
use test_support::server::Server;
use test_support::sockets::Sockets;
use test_support::transcript_files::run_on_sockets;

#[test]
fn every_transcript_passes_with_and_without_tls() {
    let authority = Authority::new();
    let pair = authority.certify();
    for (options, tls) in [(&[][..], None), (&pair.options(), Some(trusting(&authority.own())))] {
        run_on_sockets(|rooms| {
            let server = Server::start_signaling(&[&super::SECRET, options, rooms].concat());
            (Sockets::new(server.address, tls.clone()), server)
        });
    }
}
