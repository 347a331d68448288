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

/// A packet of version 1: type, sequence, timestamp 0, flags 0, payload.
fn packet(kind: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    [&[1, kind][..], &sequence.to_be_bytes(), &[0; 6], payload].concat()
}
