//! Which sessions have their deliveries judged one by one: those whose rights deny topics that a subscription they may
//! make can match, and those with a subscription that was granted and is not covered by their rights any more.

use std::sync::{Arc, atomic::Ordering};

use martlet_topic::Filter;

use crate::{
    core::Core,
    hooks::{Authorizer, Identity, Origin},
    session::Session,
};

impl Core {
    /// Asks again for every session, also of clients that are away, after rights changed.
    pub(crate) fn judge_all_anew(&self) {
        for session in self.directory.sessions() {
            self.judge_anew(&session);
        }
    }

    /// Asks whether deliveries to `session` must be judged, and sets it so. Whatever changes meanwhile is noticed, here or
    /// by whoever changed it and asks then: rights, if the session is in the directory; who its client is; what it has
    /// subscribed to.
    pub(crate) fn judge_anew(&self, session: &Session) {
        loop {
            let generation = self.access_generation.load(Ordering::Acquire);
            let is_current = self.judge_by(&*self.access.load().authorizer, session);
            if is_current && self.access_generation.load(Ordering::Acquire) == generation {
                return;
            }
        }
    }

    /// Returns whether what it went by, rights aside, is still so.
    fn judge_by(&self, authorizer: &dyn Authorizer, session: &Session) -> bool {
        let known = session.identity.load_full();
        let identity = match &known {
            Some(identity) => Arc::clone(identity),
            None => match identity_away(authorizer, session) {
                Some(identity) => Arc::new(identity),
                None => return true,
            },
        };
        // No foreign call under a lock.
        let filters: Vec<Box<str>> = {
            let state = session.state.lock();
            state.subscriptions.filters().map(Box::from).collect()
        };
        let judged = authorizer.judges_deliveries(&identity)
            || filters.iter().any(|text| {
                let filter = self.accepted_filter(text).map(Filter::topic_filter);
                !filter
                    .is_ok_and(|filter| authorizer.keeps_subscription(&identity, filter.as_str()))
            });
        session.set_judged(judged);
        if known.is_none() && judged {
            // Who a client is that is away is remembered only where it is needed again, and never in place of one that came.
            let nobody = None::<Arc<Identity>>;
            session
                .identity
                .compare_and_swap(&nobody, Some(Arc::clone(&identity)));
        }
        let is_same_client = match (&*session.identity.load(), &known) {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            (Some(now), None) => Arc::ptr_eq(now, &identity),
            (None, _) => true,
        };
        let state = session.state.lock();
        is_same_client
            && state
                .subscriptions
                .filters()
                .eq(filters.iter().map(|filter| &**filter))
    }

    /// Whether messages of `topic` may be delivered to `session`, also later when its client is away.
    #[inline]
    pub(crate) fn may_receive(&self, session: &Session, topic: &str) -> bool {
        !session.is_judged() || self.judge(session, topic)
    }

    #[cold]
    fn judge(&self, session: &Session, topic: &str) -> bool {
        if session.identity.load().is_none() {
            self.judge_anew(session);
        }
        match &*session.identity.load() {
            Some(identity) => self.access.load().authorizer.deliver(identity, topic),
            None => true,
        }
    }
}

/// Who a client that is away counts as, by what is stored of its session.
fn identity_away(authorizer: &dyn Authorizer, session: &Session) -> Option<Identity> {
    let username = session.state.lock().username.clone();
    let rights = authorizer.rights_of(&session.client_id, username.as_deref())?;
    Some(Identity {
        client_id: Arc::clone(&session.client_id),
        username,
        origin: Origin::away(),
        rights,
    })
}
