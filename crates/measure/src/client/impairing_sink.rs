//! The impairment of sent AUDIO, with which `send --no-echo` tests the jitter buffer of a client.
//!
//! An echo server can lose, delay, reorder, repeat and limit its replies. One in this process gets each AUDIO packet, sealed if the link is
//! encrypted, as if the peer had sent it. Its echo to the peer is what leaves, so that the same seed decides the same as in an echo server.

use jamjam_core::echo::EchoServer;
use jamjam_core::node::{Node, Receive, SendStatus, Transmit, TransmitSink};
use jamjam_core::time::Time;
use jamjam_core::wire::{self, PacketType};

/// Passes AUDIO to the echo server, and everything else to the sink.
pub(super) struct ImpairingSink<'a> {
    pub(super) path: &'a mut EchoServer,
    pub(super) now: Time,
    pub(super) sink: &'a mut dyn TransmitSink,
}

impl TransmitSink for ImpairingSink<'_> {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        let Transmit { socket, destination: source, contents, segment_size, .. } = transmit;
        if !wire::parse_packet(contents).is_ok_and(|packet| packet.header.packet_type == PacketType::Audio) {
            return self.sink.send(transmit);
        }
        let received = Receive { socket, source, dst_ip: None, received_at: self.now, contents, segment_size };
        self.path.on_datagram(self.now, &[received]);
        SendStatus::Sent
    }

    fn max_segments(&self, _: usize) -> usize {
        1
    }
}
