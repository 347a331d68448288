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
