//! The bytes of packets, STUN messages and sealed packets.

mod golden_packets;
mod link;
mod packet_parsing;
mod stun;
