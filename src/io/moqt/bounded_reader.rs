//! A reader for a peer that may send very many tiny HTTP/3 frames and capsules. It limits the total number of bytes and the
//! number of reads in one poll.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, BufReader, ReadBuf};
use tokio::task::coop;

/// Bytes that are taken from the stream at a time. The transport locks the connection for each read, however short.
const BUFFER: usize = 1 << 10;

/// Reads no more than it is allowed, and lets other tasks run after as many reads as tokio allows a task in one poll (128).
pub(super) struct BoundedReader<R> {
    inner: BufReader<R>,
    left: u64,
    exceeded: bool,
}

impl<R: AsyncRead> BoundedReader<R> {
    /// Allows `left` bytes, those of frames' types and lengths included.
    pub(super) fn new(inner: R, left: u64) -> Self {
        Self { inner: BufReader::with_capacity(BUFFER, inner), left, exceeded: false }
    }

    /// Allows `left` bytes from now on, whatever was allowed before.
    pub(super) fn allow(&mut self, left: u64) {
        self.left = left;
    }

    /// How many bytes may still be read.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Whether more came than was allowed. Reading has failed then.
    pub(super) fn exceeded(&self) -> bool {
        self.exceeded
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for BoundedReader<R> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The transport does not use tokio's task budget. Without this call, a task that reads single bytes does not yield while
        // data is available.
        let turn = ready!(coop::poll_proceed(context));
        let available = ready!(Pin::new(&mut this.inner).poll_fill_buf(context))?;
        turn.made_progress();
        let count = available.len().min(into.remaining());
        if count as u64 > this.left {
            this.exceeded = true;
            return Poll::Ready(Err(excess()));
        }
        into.put_slice(&available[..count]);
        this.left -= count as u64;
        Pin::new(&mut this.inner).consume(count);
        Poll::Ready(Ok(()))
    }
}

/// The error of a read beyond the limit.
pub(super) fn excess() -> io::Error {
    io::Error::other("too many bytes")
}
