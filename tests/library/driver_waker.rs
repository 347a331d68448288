//! The waker wakes the loop of the driver, over real sockets.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jamjam_dev::client::StopSignal;
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::io::udp::{self, Backend, DriverOptions, IdlePolicy};
use jamjam_dev::node::{DriverWaker, Node, Receive, Transmit, TransmitSink};
use jamjam_dev::time::Time;
use test_support::TEST_TIMEOUT;

/// Sends one datagram to `to` for each wake-up, and has no deadline.
struct WakeNode {
    to: SocketAddr,
    waker: DriverWaker,
    woken: Arc<AtomicBool>,
}

impl Node for WakeNode {
    fn on_datagram(&mut self, _: Time, _: &[Receive<'_>]) {}

    fn poll_transmit(&mut self, _: Time, sink: &mut dyn TransmitSink) {
        if self.woken.swap(false, Ordering::SeqCst) {
            sink.send(Transmit::datagram(self.to, b"here"));
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        None
    }

    fn waker(&self) -> Option<&DriverWaker> {
        Some(&self.waker)
    }
}

#[test]
fn waker_wakes_the_loop_each_time() {
    for backend in [Backend::Native, Backend::Portable] {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let (waker, woken, stop) = (DriverWaker::default(), Arc::<AtomicBool>::default(), StopToken::default());
        // Waking the driver before its loop runs has no effect.
        waker.wake();
        let node = WakeNode { to: receiver.local_addr().unwrap(), waker: waker.clone(), woken: Arc::clone(&woken) };
        let options = DriverOptions { idle: IdlePolicy::Wait, spin_percent: 0, backend, follow_address: false };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let running = udp::spawn_node("wake-up", vec![socket], node, stop.clone(), options).unwrap();
        for _ in 0..20 {
            woken.store(true, Ordering::SeqCst);
            waker.wake();
            let mut received = [0; 8];
            assert_eq!(receiver.recv(&mut received).unwrap(), 4, "{backend:?}");
        }
        stop.request(StopSignal::Terminate);
        running.join().1.result.unwrap();
    }
}
