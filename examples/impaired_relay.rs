//! A UDP relay for one client that drops and duplicates the server's replies.
//!
//!     impaired_relay LISTEN SERVER SIZE LOSS_PERCENT DUPLICATE_PERCENT SEED
//!
//! Listens on LISTEN, forwards the client's datagrams to SERVER, and forwards the server's replies to the client. Replies of
//! SIZE bytes are dropped and duplicated pseudorandomly; SEED and the order of arrival determine which. After two seconds
//! without a reply, the relay prints its counts and exits. `benches/compare.py --impaired` compares them with the counts of
//! probe and irtt.

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use jamjam_dev::impairment::{Impairer, Impairment};
use jamjam_dev::wire::PacketType;

/// Time without a datagram after which the relay stops forwarding in a direction.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, server, size, loss, duplicate, seed] = &arguments[..] else {
        return Err("usage: impaired_relay LISTEN SERVER SIZE LOSS_PERCENT DUPLICATE_PERCENT SEED".into());
    };
    let (client_socket, server_socket) = (UdpSocket::bind(listen)?, UdpSocket::bind("127.0.0.1:0")?);
    server_socket.connect(server)?;
    let ratio = |percent: &str| percent.parse::<f64>().map(|percent| percent / 100.0);
    let impairment =
        Impairment { loss: ratio(loss)?, duplicate: ratio(duplicate)?, seed: seed.parse()?, ..Impairment::default() };
    let (mut impairer, size) = (Impairer::new(impairment), size.parse::<usize>()?);

    let mut buffer = vec![0; 65_536];
    let (len, client) = client_socket.recv_from(&mut buffer)?;
    server_socket.send(&buffer[..len])?;
    thread::scope(|scope| {
        scope.spawn(|| forward_upstream(&client_socket, &server_socket, client));
        let (mut replies, mut dropped, mut duplicated) = (0, 0, 0);
        server_socket.set_read_timeout(Some(IDLE_TIMEOUT))?;
        while let Ok(len) = server_socket.recv(&mut buffer) {
            let mut copies = 1;
            if len == size {
                let decision = impairer.decide(PacketType::Keepalive, 0);
                replies += 1;
                dropped += u64::from(decision.loss.is_some());
                duplicated += u64::from(decision.loss.is_none() && decision.copies > 1);
                copies = if decision.loss.is_some() { 0 } else { decision.copies };
            }
            for _ in 0..copies {
                client_socket.send_to(&buffer[..len], client)?;
            }
        }
        println!("{{\"replies\": {replies}, \"lost\": {dropped}, \"duplicated\": {duplicated}}}");
        Ok(())
    })
}

/// Forwards datagrams from the client to the server until the client is idle.
fn forward_upstream(client_socket: &UdpSocket, server_socket: &UdpSocket, client: SocketAddr) -> std::io::Result<()> {
    client_socket.set_read_timeout(Some(IDLE_TIMEOUT))?;
    let mut buffer = vec![0; 65_536];
    loop {
        let (len, source) = client_socket.recv_from(&mut buffer)?;
        if source == client {
            server_socket.send(&buffer[..len])?;
        }
    }
}
