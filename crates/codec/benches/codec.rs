//! Decoding and encoding, and scanning the same bytes once as the measure of what is possible.
//! Beside other codecs: `benches/compare`.

mod inputs;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use martlet_codec::{Packet, Publish, Split, Version, split};

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for input in inputs::all() {
        group.throughput(Throughput::Bytes(input.bytes.len() as u64));
        group.bench_function(input.name, |bencher| {
            bencher.iter(|| {
                let Ok(Split::Frame(frame)) = split(black_box(&input.bytes), u32::MAX) else {
                    unreachable!("inputs are whole");
                };
                black_box(Packet::decode(frame, black_box(Version::V5)).is_ok())
            });
        });
    }
    group.finish();
}

/// PUBLISH without the detour over [`Packet`], beside one look at each of its bytes.
fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    for input in inputs::all().into_iter().take(3) {
        group.throughput(Throughput::Bytes(input.bytes.len() as u64));
        for version in [Version::V311, Version::V5] {
            group.bench_function(format!("{} decode v{version}", input.name), |bencher| {
                bencher.iter(|| {
                    let Ok(Split::Frame(frame)) = split(black_box(&input.bytes), u32::MAX) else {
                        unreachable!("inputs are whole");
                    };
                    black_box(Publish::decode(frame, black_box(version)))
                });
            });
        }
        group.bench_function(format!("{} scan bytewise", input.name), |bencher| {
            bencher.iter(|| {
                black_box(&input.bytes)
                    .iter()
                    .position(|byte| *byte == 0xFF)
            });
        });
        group.bench_function(format!("{} scan vectorised", input.name), |bencher| {
            bencher.iter(|| {
                black_box(&input.bytes)
                    .iter()
                    .fold(0, |sum, byte| sum ^ byte)
            });
        });
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for input in inputs::all() {
        let Ok(Split::Frame(frame)) = split(&input.bytes, u32::MAX) else {
            unreachable!("inputs are whole");
        };
        let packet = Packet::decode(frame, Version::V5).expect("inputs decode");
        let mut written = Vec::with_capacity(input.bytes.len());
        group.throughput(Throughput::Bytes(input.bytes.len() as u64));
        group.bench_function(input.name, |bencher| {
            bencher.iter(|| {
                written.clear();
                let result = black_box(&packet).encode(black_box(Version::V5), &mut written);
                black_box((result, written.len()))
            });
        });
        assert_eq!(written, input.bytes);
    }
    group.finish();
}

criterion_group!(benches, decode, publish, encode);
criterion_main!(benches);
