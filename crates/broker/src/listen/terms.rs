//! What a listener holds its clients to: its policy, made ready for use when the listener opens or changes.
//!
//! A connection keeps the terms it came in under. Deliberately absent: who gets in at all; see `gate`.

use std::sync::Arc;

use martlet_codec::Version;
use martlet_session::Mount;
use martlet_sync::Mutex;

use crate::{
    config::{Config, ListenerMqtt, ListenerPolicy, Rate},
    counters::Limit,
    rates::Scope,
};

/// What a listener holds its clients to. The default is that of streams that an embedding program brings.
#[derive(Default)]
pub(crate) struct Terms {
    pub(crate) policy: ListenerPolicy,
    /// Where its clients' topics are.
    pub(crate) mount: Option<Mount>,
    /// What all its clients share.
    pub(crate) scope: Option<Arc<Scope>>,
    /// The broker's settings and what became of them here.
    config: Mutex<Option<(Arc<Config>, Arc<Config>)>>,
}

impl Terms {
    /// `before` is what they replace: what passed then still counts, if the rates are the same.
    pub(crate) fn new(policy: ListenerPolicy, before: Option<&Self>) -> Self {
        let same = before.filter(|before| before.policy.rates.all == policy.rates.all);
        let scope = match same {
            Some(before) => before.scope.clone(),
            None => Scope::new(Limit::RateListener, &policy.rates.all),
        };
        Self {
            mount: Mount::new(&policy.mount_point),
            policy,
            scope,
            config: Mutex::default(),
        }
    }

    /// The settings for its clients, when `base` are those of the broker.
    pub(crate) fn config(&self, base: Arc<Config>) -> Arc<Config> {
        let policy = &self.policy;
        let differs =
            policy.mqtt != ListenerMqtt::default() || policy.rates.client != Rate::default();
        if !differs {
            return base;
        }
        let mut cached = self.config.lock();
        if let Some((of, own)) = &*cached
            && Arc::ptr_eq(of, &base)
        {
            return Arc::clone(own);
        }
        let mut own = (*base).clone();
        policy.mqtt.apply(&mut own);
        own.rates.client = policy.rates.client.or(own.rates.client);
        let own = Arc::new(own);
        *cached = Some((base, Arc::clone(&own)));
        own
    }

    /// Whether clients of this version are served.
    pub(crate) fn serves(&self, version: Version) -> bool {
        let versions = &self.policy.versions;
        versions.is_empty() || versions.contains(&version.into())
    }

    /// Whether this user may log in here, who was authenticated; `None` is a client without a user name.
    pub(crate) fn admits(&self, username: Option<&str>) -> bool {
        let users = &self.policy.users;
        match username.filter(|name| !name.is_empty()) {
            Some(name) => users.is_empty() || users.iter().any(|user| user == name),
            None => self.policy.allow_anonymous.unwrap_or(users.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_made_once_for_each_of_the_brokers() {
        let plain = Terms::default();
        let base = Arc::new(Config::default());
        assert!(Arc::ptr_eq(&plain.config(Arc::clone(&base)), &base));
        let mut policy = ListenerPolicy::default();
        policy.mqtt.receive_maximum = Some(7);
        policy.rates.client.messages_in = 5;
        let terms = Terms::new(policy, None);
        let own = terms.config(Arc::clone(&base));
        assert_eq!(
            (own.mqtt.receive_maximum, own.rates.client.messages_in),
            (7, 5)
        );
        assert!(Arc::ptr_eq(&own, &terms.config(Arc::clone(&base))));
        let mut other = Config::default();
        other.limits.inflight_max = 9;
        let own = terms.config(Arc::new(other));
        assert_eq!((own.mqtt.receive_maximum, own.limits.inflight_max), (7, 9));
    }

    #[test]
    fn users_are_admitted_by_name() {
        let check = |users: &[&str], anonymous: Option<bool>, name: Option<&str>, admits: bool| {
            let terms = Terms {
                policy: ListenerPolicy {
                    users: users.iter().map(|name| (*name).to_owned()).collect(),
                    allow_anonymous: anonymous,
                    ..ListenerPolicy::default()
                },
                ..Terms::default()
            };
            assert_eq!(
                terms.admits(name),
                admits,
                "{users:?} {anonymous:?} {name:?}"
            );
        };
        check(&[], None, None, true);
        check(&[], None, Some("ann"), true);
        check(&[], Some(false), None, false);
        check(&[], Some(false), Some(""), false);
        check(&["ann"], None, Some("ann"), true);
        check(&["ann"], None, Some("bob"), false);
        check(&["ann"], None, None, false);
        check(&["ann"], Some(true), None, true);
    }
}
