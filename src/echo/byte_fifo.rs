//! A first-in first-out byte queue that returns its memory to the system.
//!
//! Bytes are stored contiguously in memory-mapped chunks of a fixed size. A few empty chunks are kept for reuse. Further empty chunks are
//! unmapped, so their memory returns to the system independently of the allocator. Growing never copies stored bytes. Every chunk is filled
//! completely before bytes go into the next chunk. If the bytes of a read lie in several chunks, they are copied into a scratch buffer.

use std::collections::VecDeque;
use std::io;

use memmap2::MmapMut;

/// Number of empty chunks kept for reuse: enough for a steady stream to need no new mappings.
const SPARE_CHUNK_CAPACITY: usize = 2;

/// The queue, in chunks of `CHUNK` bytes. Offsets count from the oldest byte.
#[derive(Default)]
pub(super) struct ByteFifo<const CHUNK: usize> {
    chunks: VecDeque<MmapMut>,
    spare_chunks: Vec<MmapMut>,
    /// Bytes of the first chunk that are already consumed.
    consumed: usize,
    len: usize,
    scratch: Vec<u8>,
}

impl<const CHUNK: usize> ByteFifo<CHUNK> {
    /// Number of stored bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Allocates space for `len` more bytes. Fails if the system has no memory left.
    pub(super) fn reserve(&mut self, len: usize) -> io::Result<()> {
        while self.chunks.len() * CHUNK < self.consumed + self.len + len {
            let chunk = match self.spare_chunks.pop() {
                Some(chunk) => chunk,
                None => MmapMut::map_anon(CHUNK)?,
            };
            self.chunks.push_back(chunk);
        }
        Ok(())
    }

    /// Appends `bytes`.
    ///
    /// # Panics
    /// If [`ByteFifo::reserve`] was not called for `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let (mut position, mut rest) = (self.consumed + self.len, bytes);
        while !rest.is_empty() {
            let free = &mut self.chunks[position / CHUNK][position % CHUNK..];
            let part = free.len().min(rest.len());
            free[..part].copy_from_slice(&rest[..part]);
            rest = &rest[part..];
            position += part;
        }
        self.len += bytes.len();
    }

    /// Number of contiguous bytes, starting with the oldest byte.
    pub(super) fn contiguous_len(&self) -> usize {
        self.len.min(CHUNK - self.consumed)
    }

    /// The oldest `len` bytes: borrowed if they are contiguous, otherwise copied into the scratch buffer.
    ///
    /// # Panics
    /// If fewer bytes are stored.
    pub(super) fn peek(&mut self, len: usize) -> &[u8] {
        assert!(len <= self.len, "cannot read {len} of {} bytes", self.len);
        if len == 0 {
            return &[];
        }
        if len <= self.contiguous_len() {
            return &self.chunks[0][self.consumed..self.consumed + len];
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(len.max(scratch.len()), 0);
        self.copy_to(0, &mut scratch[..len]);
        self.scratch = scratch;
        &self.scratch[..len]
    }

    /// Fills `out` with a copy of the stored bytes that start at `offset`.
    ///
    /// # Panics
    /// If fewer bytes are stored.
    pub(super) fn copy_to(&self, offset: usize, out: &mut [u8]) {
        assert!(offset + out.len() <= self.len, "cannot read {} bytes at {offset} of {}", out.len(), self.len);
        let (mut position, mut done) = (self.consumed + offset, 0);
        while done < out.len() {
            let stored = &self.chunks[position / CHUNK][position % CHUNK..];
            let part = stored.len().min(out.len() - done);
            out[done..done + part].copy_from_slice(&stored[..part]);
            done += part;
            position += part;
        }
    }

    /// Removes the oldest `len` bytes.
    ///
    /// # Panics
    /// If fewer bytes are stored.
    pub(super) fn consume(&mut self, len: usize) {
        assert!(len <= self.len, "cannot consume {len} of {} bytes", self.len);
        self.len -= len;
        self.consumed += len;
        while self.consumed >= CHUNK {
            self.consumed -= CHUNK;
            self.recycle_first_chunk();
        }
        if self.len == 0 && !self.chunks.is_empty() {
            // Reuse the first chunk from its start: its pages are mapped already.
            self.consumed = 0;
            while self.chunks.len() > 1 {
                self.recycle_first_chunk();
            }
        }
    }

    fn recycle_first_chunk(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            if self.spare_chunks.len() < SPARE_CHUNK_CAPACITY {
                self.spare_chunks.push(chunk);
            }
            if self.chunks.is_empty() && self.chunks.capacity() > 64 {
                self.chunks.shrink_to(16);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNK: usize = 64 * 1024;

    proptest! {
        #[test]
        fn bytes_come_out_in_the_order_they_were_pushed(steps in prop::collection::vec((0usize..70_000, 0usize..70_000), 1..60)) {
            let mut fifo = ByteFifo::<CHUNK>::default();
            let pattern: Vec<u8> = (0..70_256).map(|i| (i as u8).wrapping_mul(31)).collect();
            let mut model: Vec<u8> = Vec::new();
            let mut start = 0u8;
            for (push, pop) in steps {
                let bytes = &pattern[usize::from(start)..][..push];
                start = start.wrapping_add(7);
                fifo.reserve(push).expect("memory for a few chunks");
                fifo.push(bytes);
                model.extend(bytes);
                let pop = pop.min(fifo.len());
                prop_assert_eq!(fifo.peek(pop), &model[..pop]);
                fifo.consume(pop);
                model.drain(..pop);
                prop_assert_eq!(fifo.len(), model.len());
                if fifo.len() > 10 {
                    let mut out = [0; 10];
                    let at = fifo.len() / 2 - 5;
                    fifo.copy_to(at, &mut out);
                    prop_assert_eq!(&out, &model[at..at + 10]);
                }
            }
        }
    }

    #[test]
    fn an_empty_fifo_keeps_at_most_the_spare_chunks() {
        let mut fifo = ByteFifo::<CHUNK>::default();
        for _ in 0..3 {
            for _ in 0..100 {
                fifo.reserve(CHUNK).expect("25 MiB");
                fifo.push(&vec![1; CHUNK]);
            }
            fifo.consume(fifo.len());
            assert!(fifo.chunks.len() + fifo.spare_chunks.len() <= 1 + SPARE_CHUNK_CAPACITY);
        }
    }
}
