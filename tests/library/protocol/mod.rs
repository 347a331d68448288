//! Bytes on the wire and protocol sessions, in memory.

mod golden_packets;
mod moqt_echo;
mod moqt_messages;
mod moqt_session;
mod packet_parsing;
mod stun;
