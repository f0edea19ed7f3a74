//! What concerns all connected clients of one user name: how many they are, and how much may pass.
//!
//! Deliberately absent: who may log in; see `auth`.

use std::sync::Arc;

use hashbrown::HashMap;
use martlet_sync::Mutex;

use crate::{config::Config, core::Core, counters::Limit, rates::Scope};

/// The users who are connected, while anything about them is bounded.
#[derive(Default)]
pub(crate) struct ConnectedUsers {
    all: Mutex<HashMap<Arc<str>, User>>,
}

struct User {
    connections: usize,
    scope: Option<Arc<Scope>>,
}

/// A place among the connections of a user; given back on drop.
pub(crate) struct UserPlace {
    core: Arc<Core>,
    name: Arc<str>,
    pub(crate) scope: Option<Arc<Scope>>,
}

impl Drop for UserPlace {
    fn drop(&mut self) {
        let mut all = self.core.users.all.lock();
        if let Some(user) = all.get_mut(&self.name) {
            user.connections -= 1;
            if user.connections == 0 {
                all.remove(&self.name);
            }
        }
    }
}

impl Core {
    /// Takes a place for a client of `name`; `Ok(None)` where nothing is counted. `replaces`: another connection of this
    /// user ends for it.
    ///
    /// # Errors
    /// The user has as many as `limits.connections_per_user_max`; it is counted.
    pub(crate) fn user_place(
        self: &Arc<Self>,
        config: &Config,
        name: &Arc<str>,
        replaces: bool,
    ) -> Result<Option<UserPlace>, Limit> {
        let max = config.limits.connections_per_user_max;
        let rate = &config.rates.user;
        if max == 0 && rate.is_unbounded() {
            return Ok(None);
        }
        let mut all = self.users.all.lock();
        let user = all.entry(Arc::clone(name)).or_insert_with(|| User {
            connections: 0,
            scope: Scope::new(Limit::RateUser, rate),
        });
        if max > 0 && user.connections >= max + usize::from(replaces) {
            self.counters.limit(Limit::ConnectionsPerUserMax);
            return Err(Limit::ConnectionsPerUserMax);
        }
        user.connections += 1;
        let scope = user.scope.clone();
        drop(all);
        Ok(Some(UserPlace {
            core: Arc::clone(self),
            name: Arc::clone(name),
            scope,
        }))
    }
}
