//! The echo server in virtual time.

mod admission;
mod delay_line;
mod impairment;
mod link;
mod link_limits;
mod loss_report;
mod mapped_address;
mod memory;
mod pauses;
mod reply_loops;
mod sources;

use std::net::SocketAddr;
use std::time::Duration;

use jamjam_core::echo::{Counters, DropReason, EchoConfig, EchoServer};
use jamjam_core::impairment::Impairment;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn client(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 5_000))
}

fn server(delay_ms: u64) -> EchoServer {
    EchoServer::new(EchoConfig { delay: Duration::from_millis(delay_ms), ..EchoConfig::default() })
}

fn impaired(config: EchoConfig, impairment: Impairment) -> EchoServer {
    EchoServer::new(config).with_impairment(Some((impairment, Box::new(|_| {}))))
}

fn drops<const N: usize>(counters: &Counters, reasons: [DropReason; N]) -> [u64; N] {
    reasons.map(|reason| counters.dropped(reason).get())
}

/// A packet of version 1: type, sequence, timestamp 0, flags 0, payload.
fn packet(kind: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    [&[1, kind][..], &sequence.to_be_bytes(), &[0; 6], payload].concat()
}
