//! Encrypted links over real sockets.

use test_support::link_client::{AUDIO, KEEPALIVE, LinkClient, header};
use test_support::server::{Client, Server, audio};

/// Exchanges keys over the socket.
fn connect(client: &Client) -> LinkClient {
    let mut link = LinkClient::unsigned();
    assert_eq!(client.exchange(&header(KEEPALIVE, 0, 0, 0)), header(KEEPALIVE, 0, 0, 0));
    assert!(link.on_control(&client.exchange(&link.control())));
    assert!(link.open(&client.recv()).is_some());
    let reply = client.exchange(&link.seal(KEEPALIVE, 1, 0, b""));
    assert_eq!(link.open(&reply), Some((KEEPALIVE, 1, 0, Vec::new())));
    link
}

#[test]
fn sealed_and_plain_clients_get_their_audio_from_one_port() {
    for driver in ["native", "portable"] {
        let mut server = Server::start(&["--host", "127.0.0.1", "--delay", "20", "--driver", driver]);
        let (sealed, plain) = (Client::connect(server.address), Client::connect(server.address));
        let mut link = connect(&sealed);
        let line = server.line_starting_with("echo: link agreed ").message;
        assert!(line.contains(&sealed.address().to_string()) && line.ends_with("link=encrypted"), "{line}");
        for sequence in 0..50 {
            sealed.send(&link.seal(AUDIO, sequence, 128 * sequence, &[sequence as u8; 1_024]));
            plain.send(&audio(sequence, 512));
        }
        for sequence in 0..50 {
            let opened = link.open(&sealed.recv());
            assert_eq!(opened, Some((AUDIO, sequence, 128 * sequence, vec![sequence as u8; 1_024])), "{driver}");
            assert_eq!(plain.recv(), audio(sequence, 512), "{driver}");
        }
        let stats = server.stop("TERM").stats();
        assert_eq!((stats.count("received"), stats.count("sent"), stats.count("links")), (100, 100, 1), "{stats}");
    }
}
