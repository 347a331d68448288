//! The bytes of queued datagrams.

use std::collections::{TryReserveError, VecDeque};

/// Capacity of a chunk. The longest datagrams leave at most an eighth of a chunk unused.
const CHUNK_LEN: usize = 512 * 1024;

/// Number of empty chunks kept for reuse.
const MAX_SPARE_CHUNKS: usize = 2;

/// The bytes of queued datagrams, in chunks.
///
/// A position counts bytes from the start of the first chunk that was ever used. Datagrams that are stored one after the other are contiguous
/// within a chunk, so that one segmented send transmits them without a copy. A chunk is freed or reused when its last datagram has left.
/// Chunks are so large that the allocator returns their memory to the system at once (`src/jemalloc_settings.c`).
#[derive(Default)]
pub(crate) struct DatagramStore {
    chunks: VecDeque<Chunk>,
    /// Number of those that are not freed.
    used_chunks: usize,
    /// Number of chunks removed from the front of `chunks`.
    removed: u64,
    /// Empty chunks, kept so that a steady stream allocates nothing.
    spare: Vec<Vec<u8>>,
}

struct Chunk {
    bytes: Vec<u8>,
    /// Number of bytes that are not removed.
    live: usize,
}

impl DatagramStore {
    /// Stores as many of these datagrams as fit in one chunk, at least one. Returns their position and length. Positions increase while
    /// anything is stored. Fails if there is no memory left.
    pub(crate) fn push(&mut self, datagrams: &[u8], segment_size: usize) -> Result<(u64, usize), TryReserveError> {
        let first = datagrams.len().min(segment_size);
        if self.chunks.back().is_none_or(|chunk| CHUNK_LEN - chunk.bytes.len() < first) {
            let mut bytes = self.spare.pop().unwrap_or_default();
            bytes.try_reserve_exact(CHUNK_LEN)?;
            self.used_chunks += 1;
            self.chunks.push_back(Chunk { bytes, live: 0 });
        }
        let index = self.removed + self.chunks.len() as u64 - 1;
        let chunk = self.chunks.back_mut().expect("a chunk was added if there was none");
        let (start, room) = (chunk.bytes.len(), CHUNK_LEN - chunk.bytes.len());
        let len = if datagrams.len() <= room { datagrams.len() } else { room / segment_size * segment_size };
        chunk.bytes.extend_from_slice(&datagrams[..len]);
        chunk.live += len;
        Ok((index * CHUNK_LEN as u64 + start as u64, len))
    }

    /// The memory that is in use, in bytes. A chunk with a single datagram counts as a whole.
    pub(crate) fn used(&self) -> usize {
        self.used_chunks * CHUNK_LEN
    }

    /// The `len` bytes at `position`.
    pub(crate) fn get(&self, position: u64, len: usize) -> &[u8] {
        let (index, start) = self.locate(position);
        &self.chunks[index].bytes[start..start + len]
    }

    /// Like [`DatagramStore::get`], to change the bytes.
    pub(crate) fn get_mut(&mut self, position: u64, len: usize) -> &mut [u8] {
        let (index, start) = self.locate(position);
        &mut self.chunks[index].bytes[start..start + len]
    }

    /// Whether the bytes at `next` directly follow the `len` bytes at `position`, in the same chunk.
    pub(crate) fn is_contiguous(position: u64, len: usize, next: u64) -> bool {
        position + len as u64 == next && position / CHUNK_LEN as u64 == next / CHUNK_LEN as u64
    }

    /// Removes the `len` bytes at `position`.
    pub(crate) fn remove(&mut self, position: u64, len: usize) {
        let (index, _) = self.locate(position);
        let is_last = index + 1 == self.chunks.len();
        let chunk = &mut self.chunks[index];
        chunk.live -= len;
        if chunk.live > 0 {
            return;
        }
        chunk.bytes.clear();
        if is_last {
            return;
        }
        let bytes = std::mem::take(&mut chunk.bytes);
        self.used_chunks -= 1;
        if self.spare.len() < MAX_SPARE_CHUNKS {
            self.spare.push(bytes);
        }
        while self.chunks.front().is_some_and(|chunk| chunk.bytes.capacity() == 0) {
            self.chunks.pop_front();
            self.removed += 1;
        }
    }

    /// Index of a chunk, and offset in it.
    fn locate(&self, position: u64) -> (usize, usize) {
        ((position / CHUNK_LEN as u64 - self.removed) as usize, (position % CHUNK_LEN as u64) as usize)
    }

    #[cfg(test)]
    pub(crate) fn allocated(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes.capacity()).chain(self.spare.iter().map(Vec::capacity)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stored_bytes_are_unchanged_in_any_order_of_removal(
            steps in prop::collection::vec((1usize..200_000, 1usize..70_000, any::<prop::sample::Index>(), 0usize..4), 1..60),
        ) {
            let mut store = DatagramStore::default();
            let mut stored: Vec<(u64, Vec<u8>)> = Vec::new();
            for (number, (len, segment_size, index, removed)) in steps.into_iter().enumerate() {
                let pattern: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(number as u8)).collect();
                let mut rest = &pattern[..];
                while !rest.is_empty() {
                    let (position, len) = store.push(rest, segment_size).expect("memory");
                    prop_assert!(len == rest.len() || len % segment_size == 0 && len > 0);
                    prop_assert!(stored.iter().all(|(before, _)| *before < position));
                    stored.push((position, rest[..len].to_vec()));
                    rest = &rest[len..];
                }
                for _ in 0..removed.min(stored.len()) {
                    let (position, bytes) = stored.swap_remove(index.index(stored.len()));
                    prop_assert_eq!(store.get(position, bytes.len()), &bytes[..]);
                    store.remove(position, bytes.len());
                }
            }
            for (position, bytes) in stored {
                prop_assert_eq!(store.get(position, bytes.len()), &bytes[..]);
                store.remove(position, bytes.len());
            }
            prop_assert!(store.allocated() <= (1 + MAX_SPARE_CHUNKS) * CHUNK_LEN);
        }
    }

    #[test]
    fn only_bytes_of_one_chunk_are_contiguous() {
        let mut store = DatagramStore::default();
        let half = vec![7; CHUNK_LEN / 2];
        let positions = [0, 1, 2, 3].map(|_| store.push(&half, half.len()).expect("memory").0);
        let contiguous = [0, 1, 2].map(|n| DatagramStore::is_contiguous(positions[n], half.len(), positions[n + 1]));
        assert_eq!(contiguous, [true, false, true]);
        assert!(!DatagramStore::is_contiguous(positions[0], half.len() - 1, positions[1]));
    }
}
