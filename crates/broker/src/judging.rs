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

    /// Asks whether deliveries to `session` must be judged, and sets it so. Rights that change meanwhile are noticed,
    /// here or by whoever changed them, if the session is in the directory.
    pub(crate) fn judge_anew(&self, session: &Session) {
        loop {
            let generation = self.access_generation.load(Ordering::Acquire);
            self.judge_by(&*self.access.load().authorizer, session);
            if self.access_generation.load(Ordering::Acquire) == generation {
                return;
            }
        }
    }

    fn judge_by(&self, authorizer: &dyn Authorizer, session: &Session) {
        let mut away = None;
        let known = session.identity.load();
        let identity = match &*known {
            Some(identity) => identity,
            None => match identity_away(authorizer, session) {
                Some(identity) => away.insert(Arc::new(identity)),
                None => return,
            },
        };
        // No foreign call under a lock.
        let filters: Vec<Box<str>> = {
            let state = session.state.lock();
            state.subscriptions.filters().map(Box::from).collect()
        };
        let judged = authorizer.judges_deliveries(identity)
            || filters.iter().any(|text| {
                let filter = self.accepted_filter(text).map(Filter::topic_filter);
                !filter.is_ok_and(|filter| authorizer.keeps_subscription(identity, filter.as_str()))
            });
        session.set_judged(judged);
        // Who a client is that is away is remembered only where it is needed again.
        if let Some(identity) = away.filter(|_| judged) {
            session.identity.store(Some(identity));
        }
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
