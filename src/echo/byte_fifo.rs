//! A first-in first-out store of bytes that gives its memory back.
//!
//! Bytes lie one after the other in mapped chunks of a fixed size. A chunk that has drained is kept for reuse, up to
//! a few, and unmapped beyond that, so that memory returns to the system whatever the allocator does; growing never
//! copies what is already stored. What straddles two chunks is copied into a scratch buffer when it is looked at, so
//! no byte of a chunk is wasted.

use std::collections::VecDeque;
use std::io;

use memmap2::MmapMut;

/// Drained chunks kept for reuse: enough for a steady stream to run without asking the system for memory.
const SPARES: usize = 2;

/// The store, in chunks of `CHUNK` bytes. Offsets count from the oldest byte held.
#[derive(Default)]
pub(super) struct ByteFifo<const CHUNK: usize> {
    chunks: VecDeque<MmapMut>,
    spares: Vec<MmapMut>,
    /// Bytes of the first chunk that have left already.
    drained: usize,
    len: usize,
    scratch: Vec<u8>,
}

impl<const CHUNK: usize> ByteFifo<CHUNK> {
    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Makes room for `len` more bytes. Fails when the system has no memory left.
    pub(super) fn reserve(&mut self, len: usize) -> io::Result<()> {
        while self.chunks.len() * CHUNK < self.drained + self.len + len {
            let chunk = match self.spares.pop() {
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
    /// If [`ByteFifo::reserve`] has not made room for them.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let (mut at, mut rest) = (self.drained + self.len, bytes);
        while !rest.is_empty() {
            let room = &mut self.chunks[at / CHUNK][at % CHUNK..];
            let part = room.len().min(rest.len());
            room[..part].copy_from_slice(&rest[..part]);
            rest = &rest[part..];
            at += part;
        }
        self.len += bytes.len();
    }

    /// How many bytes from the oldest on lie side by side.
    pub(super) fn contiguous(&self) -> usize {
        self.len.min(CHUNK - self.drained)
    }

    /// The oldest `len` bytes. Side by side they are lent as they lie, else gathered first.
    ///
    /// # Panics
    /// If fewer are held.
    pub(super) fn front(&mut self, len: usize) -> &[u8] {
        assert!(len <= self.len, "asked for {len} of {} bytes", self.len);
        if len == 0 {
            return &[];
        }
        if len <= self.contiguous() {
            return &self.chunks[0][self.drained..self.drained + len];
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(len.max(scratch.len()), 0);
        self.copy_out(0, &mut scratch[..len]);
        self.scratch = scratch;
        &self.scratch[..len]
    }

    /// Copies the bytes from `offset` on into `out`.
    ///
    /// # Panics
    /// If fewer are held.
    pub(super) fn copy_out(&self, offset: usize, out: &mut [u8]) {
        assert!(offset + out.len() <= self.len, "asked for {} bytes at {offset} of {}", out.len(), self.len);
        let (mut at, mut done) = (self.drained + offset, 0);
        while done < out.len() {
            let there = &self.chunks[at / CHUNK][at % CHUNK..];
            let part = there.len().min(out.len() - done);
            out[done..done + part].copy_from_slice(&there[..part]);
            done += part;
            at += part;
        }
    }

    /// Forgets the oldest `len` bytes.
    ///
    /// # Panics
    /// If fewer are held.
    pub(super) fn pop(&mut self, len: usize) {
        assert!(len <= self.len, "asked to drop {len} of {} bytes", self.len);
        self.len -= len;
        self.drained += len;
        while self.drained >= CHUNK {
            self.drained -= CHUNK;
            self.retire_first();
        }
        if self.len == 0 && !self.chunks.is_empty() {
            // Start again at the beginning of a chunk: its pages are warm.
            self.drained = 0;
            while self.chunks.len() > 1 {
                self.retire_first();
            }
        }
    }

    fn retire_first(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            if self.spares.len() < SPARES {
                self.spares.push(chunk);
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
        fn what_goes_in_comes_out_in_order(steps in prop::collection::vec((0usize..70_000, 0usize..70_000), 1..60)) {
            let mut fifo = ByteFifo::<CHUNK>::default();
            let mut model: VecDeque<u8> = VecDeque::new();
            let mut next = 0u8;
            for (push, pop) in steps {
                let bytes: Vec<u8> = (0..push).map(|i| next.wrapping_add(i as u8).wrapping_mul(31)).collect();
                next = next.wrapping_add(7);
                fifo.reserve(push).expect("memory for a few chunks");
                fifo.push(&bytes);
                model.extend(&bytes);
                let pop = pop.min(fifo.len());
                let expected: Vec<u8> = model.drain(..pop).collect();
                prop_assert_eq!(fifo.front(pop), &expected[..]);
                fifo.pop(pop);
                prop_assert_eq!(fifo.len(), model.len());
                if fifo.len() > 10 {
                    let mut out = [0; 10];
                    let at = fifo.len() / 2 - 5;
                    fifo.copy_out(at, &mut out);
                    prop_assert!(out.iter().eq(model.range(at..at + 10)));
                }
            }
        }
    }

    #[test]
    fn a_drained_store_keeps_only_a_few_chunks() {
        let mut fifo = ByteFifo::<CHUNK>::default();
        for _ in 0..3 {
            for _ in 0..100 {
                fifo.reserve(CHUNK).expect("25 MiB");
                fifo.push(&vec![1; CHUNK]);
            }
            fifo.pop(fifo.len());
            assert!(fifo.chunks.len() + fifo.spares.len() <= 1 + SPARES);
        }
    }
}
