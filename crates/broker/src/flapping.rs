//! Clients that connect again and again, and their bans.
//!
//! Counted are CONNECTs that passed authentication, by client id and user name: nobody can have somebody else banned.
//! A plain value behind one lock; time is an argument. Deliberately absent: bans by address; see
//! `ListenerPolicy::connection_rate_per_address`.

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;
use martlet_storage::Timestamp;
use martlet_sync::Mutex;

use crate::config;

/// Clients remembered at most.
const REMEMBERED_MAX: usize = 65_536;

/// A client that may not connect for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banned {
    /// Its client id.
    pub client_id: Arc<str>,
    /// Its user name; empty for none.
    pub username: Arc<str>,
    /// How long it still lasts.
    pub remaining: Duration,
}

/// Client id and user name.
type Name = (Arc<str>, Arc<str>);

/// Who connected how often.
#[derive(Default)]
pub(crate) struct Flapping {
    clients: Mutex<HashMap<Name, Seen>>,
}

#[derive(Clone, Copy)]
struct Seen {
    /// The beginning of the window, or of the ban.
    since: Timestamp,
    connects: u32,
    banned: bool,
}

impl Seen {
    fn is_over(&self, settings: &config::Flapping, now: Timestamp) -> bool {
        let length = if self.banned {
            settings.ban
        } else {
            settings.window
        };
        now.millis_since(self.since) >= millis(length)
    }
}

/// Frees half of what may be remembered, so that a crowd of client ids costs one look at all of them now and then and not
/// one for each connection: what is over, then counts, which begin anew, and bans, from the oldest on, only at last.
fn make_room(clients: &mut HashMap<Name, Seen>, settings: &config::Flapping, now: Timestamp) {
    clients.retain(|_, seen| !seen.is_over(settings, now));
    if clients.len() > REMEMBERED_MAX / 2 {
        clients.retain(|_, seen| seen.banned);
    }
    if clients.len() > REMEMBERED_MAX / 2 {
        let mut times: Vec<Timestamp> = clients.values().map(|seen| seen.since).collect();
        let middle = times.len() / 2;
        let (_, middle, _) = times.select_nth_unstable(middle);
        let middle = *middle;
        clients.retain(|_, seen| seen.since > middle);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Flapping {
    /// Whether the client is banned. Asked before its password is looked at, which costs more.
    pub(crate) fn is_banned(
        &self,
        client_id: &Arc<str>,
        username: &Arc<str>,
        settings: &config::Flapping,
        now: Timestamp,
    ) -> bool {
        if settings.connects_max == 0 {
            return false;
        }
        let key = (Arc::clone(client_id), Arc::clone(username));
        let seen = self.clients.lock().get(&key).copied();
        seen.is_some_and(|seen| seen.banned && !seen.is_over(settings, now))
    }

    /// Counts a connection; whether it is one too many, which bans the client.
    pub(crate) fn connects(
        &self,
        client_id: &Arc<str>,
        username: &Arc<str>,
        settings: &config::Flapping,
        now: Timestamp,
    ) -> bool {
        if settings.connects_max == 0 {
            return false;
        }
        let mut clients = self.clients.lock();
        if clients.len() >= REMEMBERED_MAX {
            make_room(&mut clients, settings, now);
        }
        let fresh = Seen {
            since: now,
            connects: 0,
            banned: false,
        };
        let key = (Arc::clone(client_id), Arc::clone(username));
        let seen = clients.entry(key).or_insert(fresh);
        if seen.is_over(settings, now) {
            *seen = fresh;
        }
        seen.connects = seen.connects.saturating_add(1);
        if seen.connects > settings.connects_max {
            seen.banned = true;
            seen.since = now;
        }
        seen.banned
    }

    /// The bans in force.
    pub(crate) fn banned(&self, settings: &config::Flapping, now: Timestamp) -> Vec<Banned> {
        let clients = self.clients.lock();
        let banned = clients
            .iter()
            .filter(|(_, seen)| seen.banned && !seen.is_over(settings, now));
        banned
            .map(|((client_id, username), seen)| Banned {
                client_id: Arc::clone(client_id),
                username: Arc::clone(username),
                remaining: settings
                    .ban
                    .saturating_sub(Duration::from_millis(now.millis_since(seen.since))),
            })
            .collect()
    }

    /// Lifts the bans of a client id; whether there were any.
    pub(crate) fn lift(&self, client_id: &str) -> bool {
        let mut clients = self.clients.lock();
        let before = clients.len();
        clients.retain(|(banned, _), seen| !(seen.banned && **banned == *client_id));
        clients.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + secs * 1_000)
    }

    #[test]
    fn one_too_many_in_the_window_bans_for_a_while() {
        let settings = config::Flapping {
            connects_max: 2,
            ..config::Flapping::default()
        };
        let flapping = Flapping::default();
        let (c, ann, bob): (Arc<str>, Arc<str>, Arc<str>) =
            ("c".into(), "ann".into(), "bob".into());
        let connects = |user, secs| flapping.connects(&c, user, &settings, at(secs));
        let is_banned = |user, secs| flapping.is_banned(&c, user, &settings, at(secs));
        assert!(!connects(&ann, 0) && !connects(&ann, 59));
        assert!(!connects(&ann, 60), "a new window");
        assert!(!connects(&ann, 61) && !is_banned(&ann, 61));
        assert!(connects(&ann, 62), "one too many");
        assert!(is_banned(&ann, 63) && is_banned(&ann, 361));
        assert!(!is_banned(&bob, 63) && !connects(&bob, 63), "another user");
        let banned = flapping.banned(&settings, at(72));
        let expected = Banned {
            client_id: "c".into(),
            username: "ann".into(),
            remaining: Duration::from_secs(290),
        };
        assert_eq!(banned, [expected]);
        assert!(!is_banned(&ann, 362) && !connects(&ann, 362), "it is over");
        assert!(!connects(&ann, 363) && connects(&ann, 364));
        assert!(flapping.lift("c") && !flapping.lift("c"));
        assert!(!is_banned(&ann, 365) && !connects(&ann, 365));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let settings = config::Flapping {
            connects_max: 1,
            ..config::Flapping::default()
        };
        let flapping = Flapping::default();
        for _ in 0..2 {
            flapping.connects(&"banned".into(), &"".into(), &settings, at(0));
        }
        for number in 0..REMEMBERED_MAX + 3 {
            let client: Arc<str> = number.to_string().into();
            flapping.connects(&client, &"".into(), &settings, at(1));
            assert!(flapping.clients.lock().len() <= REMEMBERED_MAX);
        }
        let nobody: Arc<str> = "".into();
        assert!(
            flapping.is_banned(&"banned".into(), &nobody, &settings, at(1)),
            "a crowd of others lifts no ban"
        );
        for number in 0..2 * REMEMBERED_MAX {
            let client: Arc<str> = (number / 2).to_string().into();
            flapping.connects(&client, &nobody, &settings, at(2));
            flapping.connects(&client, &nobody, &settings, at(2));
        }
        assert!(flapping.clients.lock().len() <= REMEMBERED_MAX, "bans only");
    }
}
