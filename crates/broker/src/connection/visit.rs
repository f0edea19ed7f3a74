//! Visits: what is looked at in a connection although nothing happens in it. Deliberately absent: when, see `timers`.

use std::sync::Arc;

use martlet_codec::ReasonCode;
use martlet_session::Outbound;
use martlet_storage::Timestamp;

use crate::{core::Core, counters::Limit, session::Session};

/// How often a connection is visited at least: buffers shrink, expired messages go, slow consumers are found.
pub(super) const VISIT_MILLIS: u64 = 30_000;

/// Visits that are not sooner than this are made together, ...
const TOGETHER_FROM_MILLIS: u64 = 10_000;

/// ... as many as are due within this time, because each wake of an idle machine costs more than ten visits.
const TOGETHER_MILLIS: u64 = 250;

/// When to visit a connection for which something is due in `millis`: a millisecond later than that at least, so that a
/// visit never comes just before the deadline.
pub(super) fn visit_time(now: Timestamp, millis: u64) -> Timestamp {
    let due = now.plus_millis(millis + 1);
    if millis < TOGETHER_FROM_MILLIS {
        return due;
    }
    let over = due.as_millis() % TOGETHER_MILLIS;
    due.plus_millis((TOGETHER_MILLIS - over) % TOGETHER_MILLIS)
}

impl Core {
    /// Looks at a connection from the timers' task.
    pub(crate) fn visit(&self, session: &Arc<Session>, epoch: u64) {
        let now = self.clock.now();
        let slow_millis =
            u64::try_from(self.config.load().limits.slow_consumer_timeout.as_millis())
                .unwrap_or(u64::MAX);
        let last_seen = session.last_seen();
        let generation = session.state.lock().generation;
        let mut effects = martlet_session::Effects::default();
        let mut kick = None;
        let next = session.with_outbox(|outbox| {
            outbox.owned_by(epoch)?;
            outbox.half.expire(now, &mut effects);
            self.settle(session, outbox, &mut effects, now);
            if outbox.half.counts() == martlet_session::OutboundCounts::default() {
                Outbound::shrink(&mut outbox.half);
            }
            let mut next = VISIT_MILLIS;
            let silent = now.millis_since(last_seen);
            let own = outbox.owned_by(epoch)?;
            let silence_max = u64::from(own.silence_max_millis);
            if silence_max > 0 && own.reading {
                if silent >= silence_max {
                    kick = Some((
                        ReasonCode::KeepAliveTimeout,
                        "nothing was heard for one and a half keep alive periods",
                    ));
                } else {
                    next = next.min(silence_max - silent);
                }
            }
            if let Some(since) = own.stalled_since() {
                let stalled = now.millis_since(since);
                if stalled >= slow_millis {
                    self.counters.limit(Limit::SlowConsumerTimeout);
                    kick = Some((
                        ReasonCode::QuotaExceeded,
                        "slow consumer: limits.slow_consumer_timeout",
                    ));
                } else {
                    next = next.min(slow_millis - stalled);
                }
            }
            Some(next)
        });
        self.after_alone(session, &mut effects);
        if let Some((reason, text)) = kick {
            session.kick(reason, text);
        } else if let Some(Some(next)) = next {
            self.timers
                .visit_at(visit_time(now, next), session, epoch, generation);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn visits_that_are_far_away_are_made_together_and_never_too_soon() {
        let at = |millis| Timestamp::from_millis(1_795_304_382_123 + millis);
        let mut wakes = BTreeSet::new();
        for connection in 0..1_000 {
            let visit = visit_time(at(connection), VISIT_MILLIS);
            let late = visit.millis_since(at(connection + VISIT_MILLIS));
            assert!((1..=TOGETHER_MILLIS).contains(&late), "{late}");
            wakes.insert(visit.as_millis());
        }
        assert!(wakes.len() <= 5, "{} wakes for a second", wakes.len());
        assert_eq!(visit_time(at(0), 1_500), at(1_501));
    }
}
