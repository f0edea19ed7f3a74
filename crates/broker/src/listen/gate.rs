//! Who gets in at a listener: networks, numbers of connections, and how fast they come.
//!
//! A plain value behind one lock; time is an argument. Deliberately absent: what concerns the broker as a whole
//! (`limits.connections_max`), and everything that needs to know who the client is.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use martlet_sync::Mutex;
use martlet_transport::Network;
use tokio::sync::Notify;

use super::terms::Terms;
use crate::config::ListenerPolicy;

/// Addresses remembered only for the rate of their connections; beyond it all of these are forgotten.
const REMEMBERED_MAX: usize = 65_536;

/// Why a connection is closed before a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// Its address is denied, or not allowed.
    Network,
    /// The listener has enough connections.
    Connections,
    /// Its address has enough connections.
    PerAddress,
    /// Its address has enough connections that have not got as far as CONNECT.
    HalfOpen,
    /// Its address connects too often.
    Rate,
}

impl Closed {
    /// The key behind it, in the listener's table of the configuration.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Network => "allow or deny",
            Self::Connections => "limits.connections_max",
            Self::PerAddress => "limits.connections_per_address_max",
            Self::HalfOpen => "limits.half_open_per_address_max",
            Self::Rate => "limits.connection_rate_per_address",
        }
    }
}

/// The gate of one listener.
pub(super) struct Gate {
    /// Replaced as a whole when the listener's settings change. What was counted before goes on to count.
    terms: ArcSwap<Terms>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    addresses: HashMap<IpAddr, Address>,
    /// The oldest first.
    half_open: BTreeMap<u64, (Option<IpAddr>, Arc<Notify>)>,
    next: u64,
    pace: Option<Bucket>,
    told: Option<Instant>,
    untold: u64,
}

#[derive(Default)]
struct Address {
    connections: usize,
    half_open: usize,
    bucket: Option<Bucket>,
}

impl Address {
    fn is_idle(&self) -> bool {
        self.connections == 0 && self.half_open == 0
    }
}

/// Fills evenly to what one second brings.
#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn refill(bucket: &mut Option<Self>, rate: u32, now: Instant) -> &mut Self {
        let full = f64::from(rate).max(1.0);
        let bucket = bucket.get_or_insert(Self {
            tokens: full,
            at: now,
        });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * f64::from(rate)).min(full);
        bucket.at = now;
        bucket
    }

    fn take(&mut self) -> bool {
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
    }
}

impl Gate {
    pub(super) fn new(policy: ListenerPolicy) -> Self {
        Self {
            terms: ArcSwap::from_pointee(Terms::new(policy, None)),
            state: Mutex::default(),
        }
    }

    /// What new connections are held to.
    pub(super) fn terms(&self) -> Arc<Terms> {
        self.terms.load_full()
    }

    /// Holds new connections to another policy.
    pub(super) fn change(&self, policy: ListenerPolicy) {
        let before = self.terms.load_full();
        self.terms
            .store(Arc::new(Terms::new(policy, Some(&before))));
    }

    /// Whether connections are counted by address, so that each must give its place back.
    pub(super) fn counts_addresses(&self) -> bool {
        let policy = &self.terms.load().policy;
        policy.connections_per_address_max > 0
            || policy.half_open_per_address_max > 0
            || policy.connection_rate_per_address > 0
    }

    fn counts_half_open(&self) -> bool {
        let policy = &self.terms.load().policy;
        policy.half_open_max > 0 || policy.half_open_per_address_max > 0
    }

    /// How long to wait before the next connection is taken in; those that wait meanwhile are with the kernel.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        let rate = self.terms.load().policy.connection_rate;
        if rate == 0 {
            return None;
        }
        let mut state = self.state.lock();
        let bucket = Bucket::refill(&mut state.pace, rate, now);
        if bucket.take() {
            return None;
        }
        Some(Duration::from_secs_f64(
            (1.0 - bucket.tokens) / f64::from(rate),
        ))
    }

    /// Whether anything may come from this address.
    pub(super) fn judge_network(&self, address: Option<IpAddr>) -> Result<(), Closed> {
        let Some(address) = address else {
            return Ok(());
        };
        let terms = self.terms.load();
        let ListenerPolicy { allow, deny, .. } = &terms.policy;
        let allowed = allow.is_empty() || Network::any_contains(allow, address);
        if allowed && !Network::any_contains(deny, address) {
            Ok(())
        } else {
            Err(Closed::Network)
        }
    }

    /// Takes a place for a connection from `address`, when the listener has `connections` with it. [`Gate::leave`]
    /// gives it back.
    pub(super) fn enter(
        &self,
        address: Option<IpAddr>,
        connections: usize,
        now: Instant,
    ) -> Result<(), Closed> {
        let terms = self.terms.load();
        let policy = &terms.policy;
        if policy.connections_max > 0 && connections > policy.connections_max {
            return Err(Closed::Connections);
        }
        let Some(address) = address.map(Network::origin_of) else {
            return Ok(());
        };
        if !self.counts_addresses() {
            return Ok(());
        }
        let mut state = self.state.lock();
        if state.addresses.len() > REMEMBERED_MAX {
            state.addresses.retain(|_, address| !address.is_idle());
        }
        let entry = state.addresses.entry(address).or_default();
        let rate = policy.connection_rate_per_address;
        if rate > 0 && !Bucket::refill(&mut entry.bucket, rate, now).take() {
            return Err(Closed::Rate);
        }
        let reached = |max: usize, have: usize| max > 0 && have >= max;
        let full = if reached(policy.connections_per_address_max, entry.connections) {
            Some(Closed::PerAddress)
        } else if reached(policy.half_open_per_address_max, entry.half_open) {
            Some(Closed::HalfOpen)
        } else {
            None
        };
        if let Some(closed) = full {
            if rate == 0 && entry.is_idle() {
                state.addresses.remove(&address);
            }
            return Err(closed);
        }
        entry.connections += 1;
        Ok(())
    }

    /// Gives the place of a connection from `address` back.
    pub(super) fn leave(&self, address: IpAddr) {
        let address = Network::origin_of(address);
        let mut state = self.state.lock();
        let Some(entry) = state.addresses.get_mut(&address) else {
            return;
        };
        entry.connections = entry.connections.saturating_sub(1);
        if entry.is_idle() && entry.bucket.is_none() {
            state.addresses.remove(&address);
        }
    }

    /// Counts a connection that has not got as far as CONNECT; where there are too many, the oldest one goes. Whoever
    /// stalls makes room for whoever does not.
    pub(super) fn half_open(self: &Arc<Self>, address: Option<IpAddr>) -> Option<HalfOpen> {
        if !self.counts_half_open() {
            return None;
        }
        let address = address.map(Network::origin_of);
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        let evicted = Arc::new(Notify::new());
        state
            .half_open
            .insert(number, (address, Arc::clone(&evicted)));
        if self.counts_addresses()
            && let Some(address) = address
        {
            state.addresses.entry(address).or_default().half_open += 1;
        }
        let max = self.terms.load().policy.half_open_max;
        if max > 0
            && state.half_open.len() > max
            && let Some((_, (_, oldest))) = state.half_open.first_key_value()
        {
            // Its task takes itself off the list.
            oldest.notify_one();
        }
        Some(HalfOpen {
            gate: Arc::clone(self),
            number,
            evicted,
        })
    }

    fn no_longer_half_open(&self, number: u64) {
        let mut state = self.state.lock();
        let Some((Some(address), _)) = state.half_open.remove(&number) else {
            return;
        };
        if let Some(entry) = state.addresses.get_mut(&address) {
            entry.half_open = entry.half_open.saturating_sub(1);
            if entry.is_idle() && entry.bucket.is_none() {
                state.addresses.remove(&address);
            }
        }
    }

    /// Whether to say that something was closed, and how many times that was not said: once a second at most.
    pub(super) fn tell(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        let recently = state
            .told
            .is_some_and(|told| now.saturating_duration_since(told) < Duration::from_secs(1));
        if recently {
            state.untold += 1;
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

/// A connection that has not got as far as CONNECT.
pub(super) struct HalfOpen {
    gate: Arc<Gate>,
    number: u64,
    evicted: Arc<Notify>,
}

impl HalfOpen {
    /// Ends when it has to make room.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.gate.no_longer_half_open(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(policy: ListenerPolicy) -> Arc<Gate> {
        Arc::new(Gate::new(policy))
    }

    #[expect(clippy::unnecessary_wraps, reason = "what the gate is asked with")]
    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect(text))
    }

    #[test]
    fn networks_are_allowed_and_denied() {
        let check = |allow: &[&str], deny: &[&str], address: &str, enters: bool| {
            let list =
                |texts: &[&str]| texts.iter().map(|text| text.parse().expect(text)).collect();
            let gate = gate(ListenerPolicy {
                allow: list(allow),
                deny: list(deny),
                ..ListenerPolicy::default()
            });
            let judged = gate.judge_network(ip(address));
            assert_eq!(judged.is_ok(), enters, "{allow:?} {deny:?} {address}");
        };
        check(&[], &[], "192.0.2.1", true);
        check(&["10.0.0.0/8"], &[], "192.0.2.1", false);
        check(&["10.0.0.0/8"], &[], "10.0.0.1", true);
        check(&[], &["10.0.0.0/8"], "10.0.0.1", false);
        check(&["10.0.0.0/8"], &["10.6.0.0/16"], "10.6.0.1", false);
        check(&["10.0.0.0/8"], &[], "::ffff:10.0.0.1", true);
    }

    #[test]
    fn connections_are_counted_by_listener_and_address() {
        let gate = gate(ListenerPolicy {
            connections_max: 3,
            connections_per_address_max: 2,
            ..ListenerPolicy::default()
        });
        let now = Instant::now();
        let a = ip("2001:db8::1");
        assert_eq!(gate.enter(a, 1, now), Ok(()));
        assert_eq!(gate.enter(ip("2001:db8::2"), 2, now), Ok(()), "a neighbour");
        assert_eq!(gate.enter(a, 3, now), Err(Closed::PerAddress));
        assert_eq!(gate.enter(ip("192.0.2.1"), 3, now), Ok(()));
        assert_eq!(
            gate.enter(ip("192.0.2.2"), 4, now),
            Err(Closed::Connections)
        );
        gate.leave(a.expect("an address"));
        assert_eq!(gate.enter(a, 3, now), Ok(()));
        for address in ["2001:db8::1", "2001:db8::2", "192.0.2.1"] {
            gate.leave(ip(address).expect("an address"));
        }
        assert!(gate.state.lock().addresses.is_empty(), "nothing is left");
    }

    #[test]
    fn the_rate_of_an_address_is_bounded() {
        let gate = gate(ListenerPolicy {
            connection_rate_per_address: 2,
            ..ListenerPolicy::default()
        });
        let start = Instant::now();
        let a = ip("192.0.2.1");
        for _ in 0..2 {
            assert_eq!(gate.enter(a, 1, start), Ok(()));
        }
        assert_eq!(gate.enter(a, 1, start), Err(Closed::Rate));
        assert_eq!(gate.enter(ip("192.0.2.2"), 1, start), Ok(()));
        let later = start + Duration::from_millis(501);
        assert_eq!(gate.enter(a, 1, later), Ok(()));
        assert_eq!(gate.enter(a, 1, later), Err(Closed::Rate));
    }

    #[test]
    fn the_listener_takes_its_time() {
        let gate = gate(ListenerPolicy {
            connection_rate: 10,
            ..ListenerPolicy::default()
        });
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(gate.pause(start), None);
        }
        let pause = gate.pause(start).expect("a pause");
        assert!(pause <= Duration::from_millis(100), "{pause:?}");
        assert_eq!(gate.pause(start + pause + Duration::from_micros(1)), None);
    }

    #[tokio::test]
    async fn the_oldest_half_open_connection_makes_room() {
        let gate = gate(ListenerPolicy {
            half_open_max: 2,
            ..ListenerPolicy::default()
        });
        let first = gate.half_open(ip("192.0.2.1")).expect("counted");
        let second = gate.half_open(ip("192.0.2.1")).expect("counted");
        let third = gate.half_open(ip("192.0.2.2")).expect("counted");
        first.evicted().await;
        drop((first, second));
        let _fourth = gate.half_open(None);
        drop(third);
        assert_eq!(gate.state.lock().half_open.len(), 1);
    }

    #[test]
    fn half_open_connections_are_counted_by_address() {
        let gate = gate(ListenerPolicy {
            half_open_per_address_max: 1,
            ..ListenerPolicy::default()
        });
        let now = Instant::now();
        let a = ip("192.0.2.1");
        assert_eq!(gate.enter(a, 1, now), Ok(()));
        let half_open = gate.half_open(a);
        assert_eq!(gate.enter(a, 2, now), Err(Closed::HalfOpen));
        drop(half_open);
        assert_eq!(gate.enter(a, 2, now), Ok(()));
    }

    #[test]
    fn it_is_said_once_a_second() {
        let gate = gate(ListenerPolicy::default());
        let now = Instant::now();
        assert_eq!(gate.tell(now), Some(0));
        assert_eq!((gate.tell(now), gate.tell(now)), (None, None));
        assert_eq!(gate.tell(now + Duration::from_secs(2)), Some(2));
    }
}
