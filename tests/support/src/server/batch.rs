//! Sends packets of equal length in one system call. Detects whether received packets were sent as one segmented batch or one at a time.

use std::io::IoSliceMut;
use std::net::SocketAddr;

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};

use super::client::Client;

/// A client that sends and receives batches (GSO and GRO).
pub struct BatchClient {
    client: Client,
    state: UdpSocketState,
}

impl BatchClient {
    pub fn connect(server: SocketAddr) -> Self {
        let client = Client::connect(server);
        let state = UdpSocketState::new((&client.socket).into()).unwrap();
        client.socket.set_nonblocking(false).unwrap();
        Self { client, state }
    }

    /// Sends `contents` in one call, as packets of `len` bytes. The last packet may be shorter.
    pub fn send(&self, contents: &[u8], len: usize) {
        let destination = self.client.socket.peer_addr().unwrap();
        let transmit = Transmit { destination, ecn: None, contents, segment_size: Some(len), src_ip: None };
        self.state.try_send((&self.client.socket).into(), &transmit).unwrap();
    }

    /// Receives `packets` packets. Returns the packets and the size of the largest batch.
    pub fn recv(&self, packets: usize) -> (Vec<Vec<u8>>, usize) {
        let (mut received, mut largest) = (Vec::new(), 0);
        while received.len() < packets {
            let mut buffer = vec![0; 65_536];
            let mut meta = [RecvMeta::default()];
            let mut slot = [IoSliceMut::new(&mut buffer)];
            let read = self.state.recv((&self.client.socket).into(), &mut slot, &mut meta).expect("a reply in time");
            assert_eq!(read, 1);
            let batch: Vec<Vec<u8>> = buffer[..meta[0].len].chunks(meta[0].stride).map(<[u8]>::to_vec).collect();
            largest = largest.max(batch.len());
            received.extend(batch);
        }
        (received, largest)
    }
}
