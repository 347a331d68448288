//! Tests of the bytes of packets and messages, and of protocol sessions. The tests use no sockets.

mod golden_packets;
mod link;
mod moqt_echo;
mod moqt_lite;
mod moqt_messages;
mod moqt_session;
mod packet_parsing;
mod stun;
