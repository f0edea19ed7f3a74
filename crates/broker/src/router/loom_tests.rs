//! The router's races, every interleaving of them. Models are small: two threads, one or two filters.
//!
//! Run with `RUSTFLAGS="--cfg martlet_loom" cargo test -p martlet-broker --lib loom_`.

use loom::thread;
use martlet_codec::{QoS, RetainHandling};

use super::*;

#[derive(Clone, Copy, Debug)]
struct Client(u64);

impl Subscriber for Client {
    fn id(&self) -> u64 {
        self.0
    }

    fn client_hash(&self) -> u64 {
        self.0
    }

    fn available(&self) -> Availability {
        Availability::Online
    }

    fn is_durable(&self) -> bool {
        false
    }
}

fn subscription(id: u64) -> Subscription<Client> {
    let options = SubscribeOptions {
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAlways,
    };
    Subscription::new(Client(id), options, None)
}

fn filter(text: &str) -> Filter<'_> {
    match Filter::parse(text) {
        Ok(filter) => filter,
        Err(error) => panic!("{text}: {error}"),
    }
}

/// Everyone whom a message to `topic` reaches, members of groups included.
fn reached(router: &Router<Client>, topic: &str, memo: &mut RouteMemo<Client>) -> Vec<u64> {
    let mut ids = Vec::new();
    for node in router.route(topic, memo) {
        let subscribers = node.subscribers();
        ids.extend(
            subscribers
                .chunks()
                .flatten()
                .map(|known| known.subscriber.0),
        );
        if node.has_groups() {
            for group in node.groups().iter() {
                ids.extend(group.members().iter().map(|known| known.subscriber.0));
            }
        }
    }
    ids.sort_unstable();
    ids
}

/// Explores `check` with up to three preemptions, which is enough to find nearly every race and bounds the
/// number of interleavings.
fn model(check: impl Fn(&Arc<Router<Client>>) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || check(&Arc::new(Router::new(SharedStrategy::RoundRobin, 1))));
}

/// Runs `other` beside the test's own thread.
fn beside(
    router: &Arc<Router<Client>>,
    other: impl FnOnce(&Router<Client>) + 'static,
) -> thread::JoinHandle<()> {
    let router = Arc::clone(router);
    thread::spawn(move || other(&router))
}

fn join(other: thread::JoinHandle<()>) {
    assert!(other.join().is_ok());
}

/// A message routed after `subscribe` returned reaches the subscriber, one routed after `unsubscribe`
/// returned does not, whatever a memo was filled with in between.
fn subscribed_is_seen_and_left_is_not(text: &'static str) {
    model(move |router| {
        let publisher = beside(router, |router| {
            let mut memo = RouteMemo::default();
            // Somewhere during the other thread's steps: anything goes.
            assert!(matches!(reached(router, "t", &mut memo)[..], [] | [1]));
        });
        let mut memo = RouteMemo::default();
        assert_eq!(reached(router, "t", &mut memo), []);
        router.subscribe(filter(text), subscription(1));
        assert_eq!(reached(router, "t", &mut memo), [1]);
        router.unsubscribe(filter(text), 1);
        assert_eq!(reached(router, "t", &mut memo), []);
        join(publisher);
    });
}

#[test]
fn loom_subscribed_is_seen_and_left_is_not_exact() {
    subscribed_is_seen_and_left_is_not("t");
}

#[test]
fn loom_subscribed_is_seen_and_left_is_not_wildcard() {
    subscribed_is_seen_and_left_is_not("+");
}

#[test]
fn loom_subscribed_is_seen_and_left_is_not_shared() {
    subscribed_is_seen_and_left_is_not("$share/g/t");
}

/// The last one leaves while another joins: the joiner is on a node that can be reached, whoever was first.
fn pruning_loses_nobody(leaver: &'static str, joiner: &'static str) {
    model(move |router| {
        router.subscribe(filter(leaver), subscription(1));
        let other = beside(router, move |router| {
            assert!(router.unsubscribe(filter(leaver), 1).existed);
        });
        assert!(!router.subscribe(filter(joiner), subscription(2)).replaced);
        assert!(reached(router, "t", &mut RouteMemo::default()).contains(&2));
        join(other);
        assert_eq!(reached(router, "t", &mut RouteMemo::default()), [2]);
        assert!(router.unsubscribe(filter(joiner), 2).last_local);
        assert_eq!(router.counts(), Counts::default());
        assert!(
            router
                .exact
                .iter()
                .all(|shard| shard.with(ExactMap::is_empty))
        );
        assert!(router.wildcard.with(Trie::is_empty));
    });
}

#[test]
fn loom_pruning_loses_nobody_exact() {
    pruning_loses_nobody("t", "t");
}

#[test]
fn loom_pruning_loses_nobody_wildcard() {
    pruning_loses_nobody("#", "#");
}

#[test]
fn loom_pruning_loses_nobody_in_a_group() {
    pruning_loses_nobody("$share/g/t", "$share/g/t");
}

#[test]
fn loom_pruning_loses_nobody_beside_a_group() {
    pruning_loses_nobody("$share/g/t", "t");
}

/// Two leave at the same time: exactly one of them is the last, and nothing is left.
#[test]
fn loom_two_leave_and_one_is_the_last() {
    model(|router| {
        router.subscribe(filter("t"), subscription(1));
        router.subscribe(filter("t"), subscription(2));
        let last = Arc::new(AtomicUsize::new(0));
        let other = beside(router, {
            let last = Arc::clone(&last);
            move |router| {
                let left = router.unsubscribe(filter("t"), 1);
                last.fetch_add(usize::from(left.last_local), Ordering::Relaxed);
            }
        });
        let left = router.unsubscribe(filter("t"), 2);
        last.fetch_add(usize::from(left.last_local), Ordering::Relaxed);
        join(other);
        assert_eq!(last.load(Ordering::Relaxed), 1);
        assert_eq!(router.counts(), Counts::default());
        assert!(
            router
                .exact
                .iter()
                .all(|shard| shard.with(ExactMap::is_empty))
        );
    });
}

/// A memo that was filled while a filter appeared is not kept as if it had been filled afterwards: the other
/// thread says when it is done, and from then on the memo must show it.
fn memo_is_never_newer_than_its_generation(text: &'static str) {
    model(move |router| {
        let done = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let other = beside(router, {
            let done = Arc::clone(&done);
            move |router| {
                router.subscribe(filter(text), subscription(1));
                done.store(true, Ordering::Release);
            }
        });
        let mut memo = RouteMemo::default();
        // May run before, during or after.
        let _ = reached(router, "t", &mut memo);
        if done.load(Ordering::Acquire) {
            assert_eq!(reached(router, "t", &mut memo), [1]);
        }
        join(other);
        assert_eq!(reached(router, "t", &mut memo), [1]);
    });
}

#[test]
fn loom_memo_is_never_newer_than_its_generation_exact() {
    memo_is_never_newer_than_its_generation("t");
}

#[test]
fn loom_memo_is_never_newer_than_its_generation_wildcard() {
    memo_is_never_newer_than_its_generation("#");
}
