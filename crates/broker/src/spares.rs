//! Byte buffers between two uses, so that an idle connection holds none and a busy broker allocates none.
//!
//! Each worker thread keeps a few; what one thread has too many of goes to the others through the shared part.

use martlet_sync::Mutex;

/// Buffers a thread keeps for itself.
const OWN_MAX: usize = 8;

/// Buffers that change sides at once.
const EXCHANGED: usize = OWN_MAX / 2;

/// Buffers in the shared part.
const SHARED_MAX: usize = 512;

/// Room in a new buffer: several small packets, so that buffers soon stop growing.
const NEW_BYTES: usize = 1 << 10;

/// Larger buffers are given back to the allocator: 512 of these are 16 MiB.
const KEPT_BYTES: usize = 32 << 10;

/// The shared part, one per broker.
#[derive(Default)]
pub(crate) struct SharedSpares(Mutex<Vec<Vec<u8>>>);

/// A thread's part.
#[derive(Default)]
pub(crate) struct Spares(Vec<Vec<u8>>);

impl Spares {
    /// An empty buffer with room in it.
    pub(crate) fn take(&mut self, shared: &SharedSpares) -> Vec<u8> {
        if self.0.is_empty() {
            let mut shared = shared.0.lock();
            let from = shared.len().saturating_sub(EXCHANGED);
            self.0.extend(shared.drain(from..));
        }
        self.0
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(NEW_BYTES))
    }

    /// Takes a buffer back.
    #[inline]
    pub(crate) fn give(&mut self, buffer: Vec<u8>, shared: &SharedSpares) {
        if (NEW_BYTES..=KEPT_BYTES).contains(&buffer.capacity()) {
            self.keep(buffer, shared);
        }
    }

    fn keep(&mut self, mut buffer: Vec<u8>, shared: &SharedSpares) {
        buffer.clear();
        if self.0.len() >= OWN_MAX {
            let mut shared = shared.0.lock();
            let room = SHARED_MAX.saturating_sub(shared.len()).min(EXCHANGED);
            shared.extend(self.0.drain(OWN_MAX - EXCHANGED..).take(room));
        }
        self.0.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_on_one_thread_serves_another() {
        let shared = SharedSpares::default();
        let (mut here, mut there) = (Spares::default(), Spares::default());
        for _ in 0..=OWN_MAX {
            here.give(Vec::with_capacity(NEW_BYTES + 1), &shared);
        }
        assert!(there.take(&shared).capacity() > NEW_BYTES);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let shared = SharedSpares::default();
        let mut spares = Spares::default();
        for _ in 0..10 * SHARED_MAX {
            spares.give(Vec::with_capacity(NEW_BYTES), &shared);
        }
        spares.give(Vec::with_capacity(KEPT_BYTES + 1), &shared);
        assert!(spares.0.len() <= OWN_MAX && shared.0.lock().len() <= SHARED_MAX);
        assert!(
            spares
                .0
                .iter()
                .all(|buffer| buffer.capacity() <= KEPT_BYTES)
        );
    }
}
