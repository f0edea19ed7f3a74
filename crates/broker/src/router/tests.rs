//! The router against a plain list of subscriptions, and the parts of it one by one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::{AtomicU8, Ordering},
};

use martlet_codec::{QoS, RetainHandling};
use martlet_topic::TopicFilter;
use proptest::prelude::*;

use super::{
    list::{CHUNK, List},
    *,
};

/// A subscriber whose availability a test sets.
#[derive(Clone, Debug)]
struct Client(Arc<State>);

#[derive(Debug)]
struct State {
    id: u64,
    availability: AtomicU8,
}

impl Client {
    fn new(id: u64) -> Self {
        Self(Arc::new(State {
            id,
            availability: AtomicU8::new(0),
        }))
    }

    fn set(&self, availability: Availability) {
        self.0
            .availability
            .store(availability as u8, Ordering::Relaxed);
    }
}

impl Subscriber for Client {
    fn id(&self) -> u64 {
        self.0.id
    }

    fn client_hash(&self) -> u64 {
        self.0.id.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn available(&self) -> Availability {
        [
            Availability::Online,
            Availability::Full,
            Availability::Offline,
        ][usize::from(self.0.availability.load(Ordering::Relaxed))]
    }

    fn is_durable(&self) -> bool {
        false
    }
}

const OPTIONS: SubscribeOptions = SubscribeOptions {
    qos: QoS::AtLeastOnce,
    no_local: false,
    retain_as_published: false,
    retain_handling: RetainHandling::SendAlways,
};

fn subscription(id: u64, subscription_id: u32) -> Subscription<Client> {
    Subscription::new(Client::new(id), OPTIONS, NonZeroU32::new(subscription_id))
}

fn filter(text: &str) -> Filter<'_> {
    Filter::parse(text).unwrap()
}

fn router() -> Router<Client> {
    Router::new(SharedStrategy::RoundRobin, 1)
}

/// Share name, or none, and who is in it: id and subscription id.
type Reached = BTreeMap<Option<String>, BTreeSet<(u64, u32)>>;

fn ids(subscriptions: &[Subscription<Client>]) -> impl Iterator<Item = (u64, u32)> {
    subscriptions.iter().map(|known| {
        (
            known.subscriber.id(),
            known.subscription_id.map_or(0, NonZeroU32::get),
        )
    })
}

/// Everyone whom a message to `topic` reaches; share groups of different filters are told apart.
fn reached(router: &Router<Client>, topic: &str, memo: &mut RouteMemo<Client>) -> Vec<Reached> {
    let mut all = Vec::new();
    for node in router.route(topic, memo) {
        let mut reached = Reached::new();
        let subscribers = node.subscribers();
        for chunk in subscribers.chunks() {
            assert!(!chunk.is_empty() && chunk.len() <= CHUNK);
            reached.entry(None).or_default().extend(ids(chunk));
        }
        if !node.has_groups() {
            all.push(reached);
            continue;
        }
        for group in node.groups().iter() {
            reached
                .entry(Some(group.name().to_owned()))
                .or_default()
                .extend(ids(&group.members()));
        }
        all.push(reached);
    }
    all.sort();
    all
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe(u64, String, u32),
    Unsubscribe(u64, String),
    Route(usize, String),
}

fn step() -> impl Strategy<Value = Step> {
    let level = || prop_oneof![3 => "[ab]", 1 => Just(String::new()), 1 => Just("$x".to_owned())];
    let topic = prop::collection::vec(level(), 1..4)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |text| !text.is_empty());
    let any_filter = || {
        let level = prop_oneof![2 => level(), 1 => Just("+".to_owned())];
        (
            prop::collection::vec(level, 0..3),
            any::<bool>(),
            prop_oneof![3 => Just(""), 1 => Just("$share/g/"), 1 => Just("$share/h/")],
        )
            .prop_map(|(mut levels, multi, share)| {
                if multi {
                    levels.push("#".to_owned());
                }
                (share, levels.join("/"))
            })
            .prop_filter("not empty", |(_, text)| !text.is_empty())
            .prop_map(|(share, text)| format!("{share}{text}"))
    };
    prop_oneof![
        3 => (1..6_u64, any_filter(), 1..9_u32).prop_map(|(client, text, id)| Step::Subscribe(client, text, id)),
        2 => (1..6_u64, any_filter()).prop_map(|(client, text)| Step::Unsubscribe(client, text)),
        2 => (0..2_usize, topic).prop_map(|(memo, topic)| Step::Route(memo, topic)),
    ]
}

proptest! {
    // Each case is a long history and checks everything after each step.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn equals_a_list(steps in prop::collection::vec(step(), 1..200)) {
        let router = router();
        let mut memos = [RouteMemo::default(), RouteMemo::default()];
        // Full filter text and client, and the subscription id.
        let mut model: BTreeMap<(String, u64), u32> = BTreeMap::new();
        let same_filter = |model: &BTreeMap<(String, u64), u32>, text: &str| {
            model.keys().any(|(known, _)| filter(known).topic_filter() == filter(text).topic_filter())
        };
        for step in steps {
            match step {
                Step::Subscribe(client, text, id) => {
                    let first_local = !same_filter(&model, &text);
                    let done = router.subscribe(filter(&text), subscription(client, id));
                    let replaced = model.insert((text, client), id).is_some();
                    prop_assert_eq!(done, Subscribed { replaced, first_local });
                }
                Step::Unsubscribe(client, text) => {
                    let done = router.unsubscribe(filter(&text), client);
                    let existed = model.remove(&(text.clone(), client)).is_some();
                    prop_assert_eq!(done.existed, existed);
                    prop_assert_eq!(done.last_local, existed && !same_filter(&model, &text));
                    let in_group = filter(&text).is_shared() && model.keys().any(|(known, _)| *known == text);
                    prop_assert_eq!(done.remaining.is_some(), existed && in_group);
                }
                Step::Route(memo, topic) => {
                    let mut expected: HashMap<&str, Reached> = HashMap::new();
                    for ((text, client), id) in &model {
                        let parsed = filter(text);
                        if parsed.topic_filter().matches(TopicName::new(&topic).unwrap()) {
                            let node = expected.entry(parsed.topic_filter().as_str()).or_default();
                            node.entry(parsed.group().map(str::to_owned)).or_default().insert((*client, *id));
                        }
                    }
                    let mut expected: Vec<_> = expected.into_values().collect();
                    expected.sort();
                    prop_assert_eq!(reached(&router, &topic, &mut memos[memo]), expected, "{}", topic);
                }
            }
            let shared = model.keys().filter(|(text, _)| filter(text).is_shared()).count();
            let filters: BTreeSet<_> = model.keys().map(|(text, _)| filter(text).topic_filter()).collect();
            let expected = Counts { filters: filters.len(), subscriptions: model.len() - shared, shared };
            prop_assert_eq!(router.counts(), expected);
        }
        for (text, client) in model.keys() {
            prop_assert!(router.unsubscribe(filter(text), *client).existed);
        }
        prop_assert_eq!(router.counts(), Counts::default());
        // Nothing is left.
        prop_assert!(router.exact.iter().all(|shard| shard.with(ExactMap::is_empty)));
        prop_assert_eq!(router.wildcard.with(Trie::node_count), 0);
    }

    /// The list against a map, over more subscribers than a chunk holds.
    #[test]
    fn list_equals_a_map(steps in prop::collection::vec((0..1_500_u64, prop::bool::weighted(0.6)), 1..60), joined in 0..1_500_u64, left in 0..1_500_u64) {
        let mut list = List::new();
        let mut model = BTreeMap::new();
        let check = |list: &List<Client>, model: &BTreeMap<u64, u32>| {
            let snapshot = list.snapshot();
            let found: BTreeMap<u64, u32> = snapshot.chunks().flat_map(ids).collect();
            assert_eq!(&found, model);
            assert_eq!(snapshot.chunks().map(<[_]>::len).sum::<usize>(), model.len());
            assert!(snapshot.chunks().all(|chunk| (1..=CHUNK).contains(&chunk.len())));
            assert_eq!(snapshot.chunks().count(), model.len().div_ceil(CHUNK));
            assert_eq!(list.is_empty(), model.is_empty());
        };
        for id in 0..joined {
            assert!(!list.put(subscription(id, 1)));
            model.insert(id, 1);
        }
        check(&list, &model);
        for (round, (id, add)) in (2_u32..).zip(steps) {
            if add {
                assert_eq!(list.put(subscription(id, round)), model.insert(id, round).is_some());
            } else {
                assert_eq!(list.remove(id).is_some(), model.remove(&id).is_some());
            }
        }
        check(&list, &model);
        for id in 0..left {
            assert_eq!(list.remove(id).is_some(), model.remove(&id).is_some());
        }
        check(&list, &model);
        for id in model.keys() {
            assert!(list.remove(*id).is_some());
        }
        check(&list, &BTreeMap::new());
    }
}

#[test]
fn a_snapshot_does_not_change() {
    let mut list = List::new();
    for id in 0..600 {
        list.put(subscription(id, 1));
    }
    let snapshot = list.snapshot();
    for id in 0..600 {
        list.put(subscription(id, 2));
    }
    for id in 0..600 {
        list.remove(id);
    }
    let seen: BTreeSet<_> = snapshot.chunks().flat_map(ids).collect();
    assert_eq!(seen, (0..600).map(|id| (id, 1)).collect());
}

#[test]
fn a_memo_is_told_of_new_and_of_vanished_filters_only() {
    let router = router();
    let mut memo = RouteMemo::default();
    router.subscribe(filter("a/+"), subscription(1, 1));
    assert_eq!(router.route("a/b", &mut memo).len(), 1);
    let wildcard = router.wildcard.generation();

    // Joining and leaving a filter that others hold moves no generation, and the memo shows it.
    router.subscribe(filter("a/+"), subscription(2, 1));
    router.subscribe(filter("$share/g/a/+"), subscription(3, 1));
    router.unsubscribe(filter("a/+"), 1);
    assert_eq!(router.wildcard.generation(), wildcard);
    let expected = Reached::from([
        (None, [(2, 1)].into()),
        (Some("g".to_owned()), [(3, 1)].into()),
    ]);
    assert_eq!(reached(&router, "a/b", &mut memo), [expected]);

    router.subscribe(filter("a/b"), subscription(1, 1));
    assert_eq!(router.route("a/b", &mut memo).len(), 2);
    router.subscribe(filter("#"), subscription(1, 1));
    assert_eq!(router.route("a/b", &mut memo).len(), 3);
    for (text, id) in [("a/b", 1), ("#", 1), ("a/+", 2), ("$share/g/a/+", 3)] {
        router.unsubscribe(filter(text), id);
    }
    assert!(router.route("a/b", &mut memo).is_empty());
}

#[test]
fn a_memo_is_bounded_and_right_for_every_topic() {
    let router = router();
    for topic in 0..100 {
        router.subscribe(filter(&format!("t/{topic}")), subscription(topic, 1));
    }
    let mut memo = RouteMemo::default();
    for round in 0..3 {
        for topic in 0..100_u64 {
            // Now and then one that was asked for a moment ago.
            for topic in [topic, topic / 2 + round, topic] {
                let found = reached(&router, &format!("t/{topic}"), &mut memo);
                assert_eq!(found, [Reached::from([(None, [(topic, 1)].into())])]);
            }
        }
    }
    assert!(memo.len() <= 16);
}

/// A group of clients 1 to `count` and the clients, to change them.
fn group(strategy: SharedStrategy, count: u64) -> (Router<Client>, Vec<Client>) {
    let router = Router::new(strategy, 1);
    let clients: Vec<_> = (1..=count).map(Client::new).collect();
    for client in &clients {
        router.subscribe(
            filter("$share/g/t"),
            Subscription::new(client.clone(), OPTIONS, None),
        );
    }
    (router, clients)
}

/// All candidates for a message, in order.
fn order(router: &Router<Client>, publisher: u64, topic: &str) -> Vec<u64> {
    let mut memo = RouteMemo::default();
    let groups = router.route("t", &mut memo)[0].groups();
    let ids = router.pick(&groups[0], publisher, topic);
    ids.map(|member| member.subscriber.id()).collect()
}

/// The candidate that takes the message.
fn first(router: &Router<Client>, publisher: u64, topic: &str) -> u64 {
    let mut memo = RouteMemo::default();
    let groups = router.route("t", &mut memo)[0].groups();
    let mut candidates = router.pick(&groups[0], publisher, topic);
    candidates.next().unwrap().subscriber.id()
}

const ALL: [SharedStrategy; 6] = [
    SharedStrategy::Random,
    SharedStrategy::RoundRobin,
    SharedStrategy::Sticky,
    SharedStrategy::HashClient,
    SharedStrategy::HashTopic,
    SharedStrategy::Local,
];

#[test]
fn every_strategy_offers_each_member_once_the_able_first() {
    for strategy in ALL {
        let (router, clients) = group(strategy, 100);
        for client in &clients {
            let id = client.id();
            client.set(match id % 3 {
                0 => Availability::Online,
                1 => Availability::Full,
                _ => Availability::Offline,
            });
        }
        for round in 0..20 {
            let order = order(&router, round, &round.to_string());
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (1..=100).collect::<Vec<_>>(), "{strategy:?}");
            assert!(
                order.is_sorted_by_key(|id| id % 3),
                "{strategy:?}: {order:?}"
            );
        }
    }
}

#[test]
fn nobody_online_still_gives_a_candidate() {
    for strategy in ALL {
        let (router, clients) = group(strategy, 3);
        for client in &clients {
            client.set(Availability::Offline);
        }
        assert_eq!(order(&router, 1, "t").len(), 3, "{strategy:?}");
    }
}

#[test]
fn round_robin_is_even_also_when_members_are_away() {
    for strategy in [SharedStrategy::RoundRobin, SharedStrategy::Local] {
        let (router, clients) = group(strategy, 5);
        let turn: Vec<_> = (0..10).map(|_| first(&router, 7, "t")).collect();
        assert_eq!(turn, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]);
        clients[1].set(Availability::Offline);
        clients[2].set(Availability::Full);
        let turn: Vec<_> = (0..6).map(|_| first(&router, 7, "t")).collect();
        assert_eq!(turn, [1, 4, 5, 1, 4, 5]);
    }
}

#[test]
fn sticky_stays_until_the_member_is_unable_or_gone() {
    let (router, clients) = group(SharedStrategy::Sticky, 3);
    let chosen = first(&router, 1, "t");
    assert!((0..10).all(|publisher| first(&router, publisher, "x") == chosen));
    clients[chosen as usize - 1].set(Availability::Full);
    let next = first(&router, 1, "t");
    assert_ne!(next, chosen);
    clients[chosen as usize - 1].set(Availability::Online);
    assert_eq!(first(&router, 1, "t"), next, "no way back by itself");
    // Others may come and go without a change.
    router.unsubscribe(filter("$share/g/t"), chosen);
    assert_eq!(first(&router, 1, "t"), next);
    router.unsubscribe(filter("$share/g/t"), next);
    assert_ne!(first(&router, 1, "t"), next);
}

#[test]
fn hashes_keep_their_member_when_others_come_and_go() {
    let keys = 0..1_000_u64;
    let (router, _) = group(SharedStrategy::HashClient, 5);
    let before: Vec<_> = keys.clone().map(|key| first(&router, key, "t")).collect();
    let used: BTreeSet<_> = before.iter().collect();
    assert_eq!(used.len(), 5, "every member gets some");
    assert_eq!(
        before,
        keys.clone()
            .map(|key| first(&router, key, "other"))
            .collect::<Vec<_>>()
    );
    router.unsubscribe(filter("$share/g/t"), 3);
    for (key, before) in keys.clone().zip(&before) {
        let now = first(&router, key, "t");
        assert!(if *before == 3 {
            now != 3
        } else {
            now == *before
        });
    }

    let (router, _) = group(SharedStrategy::HashTopic, 5);
    let by_topic: Vec<_> = keys
        .clone()
        .map(|key| first(&router, 1, &key.to_string()))
        .collect();
    assert_eq!(by_topic.iter().collect::<BTreeSet<_>>().len(), 5);
    assert_eq!(
        by_topic,
        keys.map(|key| first(&router, 2, &key.to_string()))
            .collect::<Vec<_>>()
    );
}

#[test]
fn random_reaches_everyone_and_repeats_with_its_seed() {
    let run = || {
        let (router, _) = group(SharedStrategy::Random, 4);
        (0..200).map(|_| first(&router, 1, "t")).collect::<Vec<_>>()
    };
    let chosen = run();
    for id in 1..=4 {
        let times = chosen.iter().filter(|&&known| known == id).count();
        assert!((20..=80).contains(&times), "client {id}: {times} of 200");
    }
    assert_eq!(chosen, run());
}

#[test]
fn the_strategy_can_be_changed() {
    let (router, _) = group(SharedStrategy::RoundRobin, 3);
    assert_ne!(first(&router, 1, "t"), first(&router, 1, "t"));
    router.set_strategy(SharedStrategy::HashClient);
    assert_eq!(first(&router, 1, "t"), first(&router, 1, "t"));
}

/// Threads that join and leave while others route: no panic, and nothing is left behind.
#[test]
fn threads_leave_nothing_behind() {
    let router = router();
    let filters = ["a/b", "a/+", "#", "$share/g/a/b", "$share/g/a/+"];
    std::thread::scope(|scope| {
        for client in 1..=4 {
            let (router, filters) = (&router, &filters);
            scope.spawn(move || {
                let mut memo = RouteMemo::default();
                for round in 0..200 {
                    for text in filters {
                        assert!(
                            !router
                                .subscribe(filter(text), subscription(client, 1))
                                .replaced
                        );
                    }
                    let seen = reached(router, "a/b", &mut memo);
                    let mine = seen
                        .iter()
                        .flat_map(BTreeMap::values)
                        .filter(|ids| ids.contains(&(client, 1)));
                    assert_eq!(mine.count(), filters.len(), "round {round}");
                    for text in filters {
                        assert!(router.unsubscribe(filter(text), client).existed);
                    }
                    let seen = reached(router, "a/b", &mut memo);
                    assert!(
                        !seen
                            .iter()
                            .flat_map(BTreeMap::values)
                            .any(|ids| ids.contains(&(client, 1)))
                    );
                }
            });
        }
    });
    assert_eq!(router.counts(), Counts::default());
    assert!(
        router
            .exact
            .iter()
            .all(|shard| shard.with(ExactMap::is_empty))
    );
    assert_eq!(router.wildcard.with(Trie::node_count), 0);
}

#[test]
fn a_filter_is_told_from_another_of_the_same_length() {
    let router = router();
    router.subscribe(filter("a/b"), subscription(1, 1));
    assert!(router.route("a/c", &mut RouteMemo::default()).is_empty());
    assert!(!router.unsubscribe(filter("a/c"), 1).existed);
    assert!(!router.unsubscribe(filter("$share/g/a/b"), 1).existed);
    assert!(!router.unsubscribe(filter("a/b"), 2).existed);
    assert!(TopicFilter::new("a/b").is_ok_and(|text| !text.has_wildcards()));
}
