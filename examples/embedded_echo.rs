//! An echo server in the process of a test. The server drops a tenth of its replies, with a seed: each run drops the same
//! packets.
//!
//! ```sh
//! cargo run --example embedded_echo
//! ```

use std::error::Error;
use std::net::UdpSocket;
use std::time::Duration;

use jamjam_dev::echo::{EchoConfig, EchoServer};
use jamjam_dev::impairment::Impairment;
use jamjam_dev::testing;
use jamjam_dev::wire::{Header, PacketType};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let config = EchoConfig { delay: Duration::from_millis(50), ..EchoConfig::default() };
    let impairment = Impairment { loss: 0.1, seed: 7, ..Impairment::default() };
    let server =
        testing::EchoServer::start_node(EchoServer::new(config).with_impairment(Some((impairment, Box::new(|_| {})))))?;

    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    for sequence in 0..100 {
        socket.send_to(&Header::new(PacketType::Audio, sequence, 128 * sequence).to_bytes(), server.addr())?;
    }
    let mut returned = 0;
    while socket.recv(&mut [0; 64]).is_ok() {
        returned += 1;
    }
    println!("100 packets sent, {} received by the server, {returned} returned", server.counters().received.get());
    Ok(server.stop()?)
}
