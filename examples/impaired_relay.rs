//! A relay that impairs what another program sends back: the server's bad path, for any UDP conversation of one client.
//!
//!     impaired_relay LISTEN SERVER SIZE LOSS_PERCENT DUPLICATE_PERCENT SEED
//!
//! What comes on LISTEN goes to SERVER, and what SERVER answers goes back; of the answers those of SIZE bytes are lost and
//! doubled by the seed, in the order in which they come. When nothing has come for two seconds it prints what it did and ends.
//! `benches/compare.py --impaired` holds other tools' counts against it.

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use jamjam_dev::link::{Impairment, Link};
use jamjam_dev::wire::Kind;

/// How long nothing has to come before the conversation is over.
const SILENCE: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [listen, server, size, loss, duplicate, seed] = &words[..] else {
        return Err("give LISTEN SERVER SIZE LOSS_PERCENT DUPLICATE_PERCENT SEED".into());
    };
    let (front, back) = (UdpSocket::bind(listen)?, UdpSocket::bind("127.0.0.1:0")?);
    back.connect(server)?;
    let ratio = |percent: &str| percent.parse::<f64>().map(|percent| percent / 100.0);
    let impairment =
        Impairment { loss: ratio(loss)?, duplicate: ratio(duplicate)?, seed: seed.parse()?, ..Impairment::default() };
    let (mut link, size) = (Link::new(impairment), size.parse::<usize>()?);

    let mut buffer = vec![0; 65_536];
    let (len, client) = front.recv_from(&mut buffer)?;
    back.send(&buffer[..len])?;
    thread::scope(|scope| {
        scope.spawn(|| outward(&front, &back, client));
        let (mut answers, mut missing, mut doubled) = (0, 0, 0);
        back.set_read_timeout(Some(SILENCE))?;
        while let Ok(len) = back.recv(&mut buffer) {
            let mut copies = 1;
            if len == size {
                let fate = link.decide(Kind::Keepalive, 0);
                answers += 1;
                missing += u64::from(fate.loss.is_some());
                doubled += u64::from(fate.loss.is_none() && fate.copies > 1);
                copies = if fate.loss.is_some() { 0 } else { fate.copies };
            }
            for _ in 0..copies {
                front.send_to(&buffer[..len], client)?;
            }
        }
        println!("{{\"answers\": {answers}, \"lost\": {missing}, \"doubled\": {doubled}}}");
        Ok(())
    })
}

/// Carries what the client sends to the server, until it is silent.
fn outward(front: &UdpSocket, back: &UdpSocket, client: SocketAddr) -> std::io::Result<()> {
    front.set_read_timeout(Some(SILENCE))?;
    let mut buffer = vec![0; 65_536];
    loop {
        let (len, from) = front.recv_from(&mut buffer)?;
        if from == client {
            back.send(&buffer[..len])?;
        }
    }
}
