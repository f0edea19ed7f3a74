//! When a little output is worth waiting for more. Deliberately absent: the output itself; see `driver`.

/// Whether to let other tasks run before a little output is written.
///
/// When a thousand publishers each bring one message for one subscriber, its task would be woken after each and make a
/// system call for each. Waiting for one round of the scheduler lets them all append first. Where that brings nothing,
/// as for pairs that take turns, it is given up for a while.
pub(super) struct Gather {
    /// What was there before the round that is being waited for.
    before: Option<usize>,
    /// Rounds that may bring nothing before waiting is given up.
    patience: u8,
    /// Wakes until it is tried again.
    pause: u8,
}

impl Default for Gather {
    fn default() -> Self {
        Self {
            before: None,
            patience: Self::PATIENCE,
            pause: 0,
        }
    }
}

impl Gather {
    const PATIENCE: u8 = 4;
    const PAUSE: u8 = 64;
    /// More than this is worth a system call.
    const LITTLE_BYTES: usize = 8 << 10;

    /// Whether to wait now that `pending` bytes are there; `woken` when they are the first since the owner was at rest.
    pub(super) fn waits(&mut self, pending: usize, woken: bool) -> bool {
        if let Some(before) = self.before.take() {
            if pending > before {
                self.patience = Self::PATIENCE;
            } else {
                self.patience = self.patience.saturating_sub(1);
                if self.patience == 0 {
                    self.pause = Self::PAUSE;
                    // One more try when the pause is over.
                    self.patience = 1;
                }
            }
            return false;
        }
        if !woken || pending > Self::LITTLE_BYTES {
            return false;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return false;
        }
        self.before = Some(pending);
        true
    }

    /// Whether a round of the scheduler is being waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.before.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One wake with `pending` bytes, of which `more` come in the round that is waited for. Returns whether it waited.
    fn wake(gather: &mut Gather, pending: usize, more: usize) -> bool {
        let waited = gather.waits(pending, true);
        assert_eq!(gather.is_waiting(), waited);
        if waited {
            assert!(!gather.waits(pending + more, false), "one round is enough");
        }
        waited
    }

    #[test]
    fn it_waits_as_long_as_that_brings_something() {
        let mut gather = Gather::default();
        assert!((0..1_000).all(|_| wake(&mut gather, 100, 100)));
    }

    #[test]
    fn it_gives_up_for_a_while_when_it_brings_nothing() {
        let mut gather = Gather::default();
        let waited = (0..1_000).filter(|_| wake(&mut gather, 100, 0)).count();
        assert!((1..30).contains(&waited), "{waited} of 1,000");
        let waited = (0..1_000).filter(|_| wake(&mut gather, 100, 100)).count();
        assert!(waited > 900, "{waited} of 1,000 when it pays again");
    }

    #[test]
    fn much_output_and_a_client_at_work_do_not_wait() {
        let mut gather = Gather::default();
        assert!(!gather.waits(Gather::LITTLE_BYTES + 1, true));
        assert!(!gather.waits(100, false));
    }
}
