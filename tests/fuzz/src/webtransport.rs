//! WebTransport over HTTP/3: the CONNECT request and the CONNECT stream of a session, in pieces. No limit is exceeded.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use jamjam_dev::io::moqt::webtransport::{
    BoundedReader, ConnectStreamEnd, MAX_CONNECT_STREAM_BYTES, MAX_HEADER_BYTES, decode_request, read_connect_stream,
    read_headers,
};
use tokio::io::{AsyncRead, ReadBuf};

use crate::input::Input;

/// The limits of this target. Inputs are too short for the limits of the server.
const MAX_HEADERS: u64 = 400;
const MAX_STREAM: u64 = 300;
const _: () = assert!(MAX_HEADERS < MAX_HEADER_BYTES && MAX_STREAM < MAX_CONNECT_STREAM_BYTES);

/// The first byte selects the part, and the second byte is the length of the pieces.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, piece) = (input.below(5), 1 + usize::from(input.byte()));
    match kind {
        0 => check_headers(input.rest(), piece),
        1 => check_connect_stream(input.rest(), piece),
        _ => {}
    }
}

/// A stream that is finished after its bytes. Every second read must be repeated.
struct Stream<'a> {
    rest: &'a [u8],
    piece: usize,
    is_ready: bool,
}

impl AsyncRead for Stream<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.is_ready = !self.is_ready;
        if !self.is_ready {
            return Poll::Pending;
        }
        let (bytes, rest) = self.rest.split_at(self.rest.len().min(self.piece).min(buffer.remaining()));
        buffer.put_slice(bytes);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

fn reader(rest: &[u8], piece: usize, max: u64) -> BoundedReader<Stream<'_>> {
    BoundedReader::new(Stream { rest, piece, is_ready: false }, max)
}

/// Polls a future until it completes. Each poll reads at least one piece.
fn complete<T>(future: impl Future<Output = T>, max_polls: usize) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..=max_polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("not complete after {max_polls} polls")
}

fn check_headers(stream: &[u8], piece: usize) {
    let read = |piece: usize| {
        let mut recv = reader(stream, piece, MAX_HEADERS);
        let headers = complete(read_headers(&mut recv), 8 + 4 * stream.len());
        assert!(recv.remaining <= MAX_HEADERS);
        headers
    };
    let headers = read(piece);
    assert_eq!(headers.as_deref().ok(), read(1 << 20).as_deref().ok(), "{headers:?}");
    if let Ok(headers) = headers {
        let _ = decode_request(headers);
    }
}

fn check_connect_stream(stream: &[u8], piece: usize) {
    let end = |piece: usize| {
        let recv = reader(stream, piece, MAX_STREAM);
        let mut reading = pin!(read_connect_stream(recv));
        complete(poll_fn(|context| reading.as_mut().poll(context)), 16 + 8 * stream.len())
    };
    let whole = end(1 << 20);
    match &whole {
        ConnectStreamEnd::ExcessiveLoad => assert!(stream.len() as u64 > MAX_STREAM),
        ConnectStreamEnd::Closed(_, reason) => assert!(reason.len() <= stream.len().max(32)),
        ConnectStreamEnd::Reset => {}
    }
    // A stream beyond the limit may end with an error of the library before the limit is reached.
    if stream.len() as u64 <= MAX_STREAM {
        assert_eq!(end(piece), whole);
    }
}
