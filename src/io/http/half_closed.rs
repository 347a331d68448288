//! The transport below HTTP, whose client may have ended its own direction (FIN).
//!
//! A client may end its direction after its last request (`nc -N`), and is answered. `hyper` therefore does not read during a response, and
//! would not notice the end of a client that receives an endless response until something is written. During such a response, this stream
//! reads itself, and the end of the client's direction ends the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::connection_permit::ConnectionPermit;

/// Number of bytes that a client has sent after the request of an endless response, which are discarded at once.
const DISCARDED_BYTES: usize = 1 << 10;

/// See the module documentation.
pub(super) struct HalfClosed<S> {
    pub(super) io: S,
    pub(super) permit: Arc<ConnectionPermit>,
}

impl<S: AsyncRead + Unpin> AsyncRead for HalfClosed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HalfClosed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// `hyper` calls this whenever it has nothing more to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.permit.is_endless() {
            let mut bytes = [0; DISCARDED_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            if Pin::new(&mut self.io).poll_read(cx, &mut buffer)?.is_ready() {
                if buffer.filled().is_empty() {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                cx.waker().wake_by_ref();
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
