//! Routing structures at 100 k and 1 M filters, and a walk over 1 M retained topics.
//!
//! `exact` asks the exact map, `wildcard` the trie; `mix` asks both, as a broker does for each topic
//! it has not cached: nine filters of ten are exact. Topics are taken in a scattered order, so that
//! the larger sizes pay for their cache misses as they would in a broker.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use martlet_topic::{Cursor, ExactMap, RetainedTree, TopicFilter, TopicHasher, TopicName, Trie};
use std::hint::black_box;
use std::time::Duration;

const SIZES: [usize; 2] = [100_000, 1_000_000];
/// Steps through the devices out of order; prime, so that it reaches all of them.
const STRIDE: usize = 514_229;

fn topic(device: usize) -> String {
    format!("site{}/building/{device:07}/temperature", device % 100)
}

/// Four shapes of wildcard filters; each topic of [`topic`] is matched by one or two of them.
fn wildcard(device: usize) -> String {
    match device % 4 {
        0 => format!("site{}/building/{device:07}/#", device % 100),
        1 => format!("site{}/+/{device:07}/temperature", device % 100),
        2 => format!("+/building/{device:07}/+"),
        _ => format!("site{}/building/{device:07}/+", device % 100),
    }
}

fn topics(count: usize) -> Vec<String> {
    (0..4_096).map(|n| topic(n * STRIDE % count)).collect()
}

fn routing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    group.warm_up_time(Duration::from_secs(1));
    group.measurement_time(Duration::from_secs(3));
    for size in SIZES {
        let asked = topics(size);
        let hasher = TopicHasher::with_seed(7);
        let mut exact = ExactMap::with_hasher(hasher.clone());
        let mut trie = Trie::with_hasher(hasher);
        for device in 0..size {
            exact.insert(&topic(device), device);
            trie.insert(TopicFilter::trusted(&wildcard(device)), device);
        }
        let mut next = asked.iter().cycle();
        group.bench_function(BenchmarkId::new("exact", size), |bencher| {
            bencher.iter(|| black_box(exact.get(next.next().map_or("", |text| text))));
        });
        group.bench_function(BenchmarkId::new("wildcard", size), |bencher| {
            bencher.iter(|| {
                let topic = TopicName::trusted(next.next().map_or("a", |text| text));
                let mut sum = 0;
                trie.for_each_match(topic, |value| sum += value);
                black_box(sum)
            });
        });
        drop((exact, trie));

        let hasher = TopicHasher::with_seed(7);
        let mut exact = ExactMap::with_hasher(hasher.clone());
        let mut trie = Trie::with_hasher(hasher);
        for device in 0..size {
            if device % 10 == 0 {
                trie.insert(TopicFilter::trusted(&wildcard(device / 10 * 7)), device);
            } else {
                exact.insert(&topic(device), device);
            }
        }
        group.bench_function(BenchmarkId::new("mix", size), |bencher| {
            bencher.iter(|| {
                let topic = TopicName::trusted(next.next().map_or("a", |text| text));
                let mut sum = exact.get(topic.as_str()).copied().unwrap_or(0);
                trie.for_each_match(topic, |value| sum += value);
                black_box(sum)
            });
        });
        group.bench_function(BenchmarkId::new("subscribe and leave", size), |bencher| {
            bencher.iter(|| {
                let filter = TopicFilter::trusted("site7/building/+/new");
                trie.insert(filter, 0);
                black_box(trie.remove(filter))
            });
        });
    }
    group.finish();
}

fn matching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one filter");
    let topic = TopicName::trusted("site42/building/0001234/temperature");
    for filter in [
        "site42/building/0001234/temperature",
        "site42/+/+/temperature",
        "site42/#",
    ] {
        group.bench_function(BenchmarkId::new("matches", filter), |bencher| {
            bencher.iter(|| {
                black_box(TopicFilter::trusted(black_box(filter)).matches(black_box(topic)))
            });
        });
    }
    group.bench_function("validate a name", |bencher| {
        bencher.iter(|| black_box(TopicName::new(black_box(topic.as_str()))));
    });
    group.finish();
}

fn retained(criterion: &mut Criterion) {
    let mut tree = RetainedTree::new();
    let size = 1_000_000;
    for device in 0..size {
        tree.insert((topic(device), device));
    }
    let asked = topics(size);
    let mut next = asked.iter().cycle();
    let mut group = criterion.benchmark_group("retained, 1 M topics");
    group.sample_size(10);
    group.bench_function("get", |bencher| {
        bencher
            .iter(|| black_box(tree.get(TopicName::trusted(next.next().map_or("a", |text| text)))));
    });
    group.bench_function("replace", |bencher| {
        bencher.iter_batched(
            || next.next().cloned().unwrap_or_default(),
            |topic| tree.insert((topic, 1)),
            BatchSize::SmallInput,
        );
    });
    let walks = [
        ("#", size),
        ("site7/#", size / 100),
        ("+/building/0500000/temperature", 1),
        ("+/+/0500000/#", 1),
        ("site7/+/+/temperature", size / 100),
        ("+/+/+/temperature", size),
        ("+/+/+/none", 0),
    ];
    for (pattern, expected) in walks {
        let filter = TopicFilter::trusted(pattern);
        group.throughput(Throughput::Elements(expected.max(1) as u64));
        group.bench_function(
            BenchmarkId::new("walk in slices of 1,000", pattern),
            |bencher| {
                bencher.iter(|| {
                    let (mut found, mut cursor): (usize, Option<Cursor>) = (0, None);
                    loop {
                        cursor = tree.walk(filter, cursor.as_ref(), &mut 1_000, |_| found += 1);
                        if cursor.is_none() {
                            break;
                        }
                    }
                    assert_eq!(found, expected, "{pattern}");
                });
            },
        );
    }
    group.finish();
}

criterion_group!(benches, matching, routing, retained);
criterion_main!(benches);
