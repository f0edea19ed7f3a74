//! Each packet decoded and encoded by three codecs, side by side.
//!
//! The owning codecs split what they return off a `BytesMut`; filling it is not measured, nor is
//! dropping what they return. They encode what they decoded. ntex keeps the payload of a PUBLISH as
//! a shared slice when it encodes: beside it stands our `encode_head` with the payload shared in the
//! same way.

mod cpu_time;
#[path = "../../inputs/mod.rs"]
mod inputs;

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use cpu_time::CpuTime;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use martlet_codec::{Packet, Split, Version, split};
use ntex_bytes::{BytePageSize, BytePages};
use ntex_codec::{Decoder, Encoder};
use ntex_mqtt::v5::codec as ntex;
use rumqttc::v5::mqttbytes::v5 as rumqttc;

fn ours(bytes: &[u8]) -> Packet<'_> {
    let Ok(Split::Frame(frame)) = split(bytes, u32::MAX) else {
        unreachable!("inputs are whole");
    };
    Packet::decode(frame, black_box(Version::V5)).expect("inputs decode")
}

fn decode(criterion: &mut Criterion<CpuTime>) {
    for input in inputs::all() {
        let mut group = criterion.benchmark_group(format!("decode {}", input.name));
        group.bench_function("martlet", |bencher| {
            bencher.iter_batched_ref(
                || BytesMut::from(&input.bytes[..]),
                |buffer| {
                    black_box(ours(buffer));
                },
                BatchSize::SmallInput,
            );
        });
        group.bench_function("rumqttc", |bencher| {
            bencher.iter_batched_ref(
                || BytesMut::from(&input.bytes[..]),
                |buffer| rumqttc::Packet::read(buffer, None).expect("inputs decode"),
                BatchSize::SmallInput,
            );
        });
        let codec = ntex::Codec::new();
        group.bench_function("ntex-mqtt", |bencher| {
            bencher.iter_batched_ref(
                || ntex_bytes::BytesMut::from(&input.bytes[..]),
                |buffer| codec.decode(buffer).expect("inputs decode"),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

fn encode(criterion: &mut Criterion<CpuTime>) {
    for input in inputs::all() {
        let mut group = criterion.benchmark_group(format!("encode {}", input.name));

        let packet = ours(&input.bytes);
        let mut written = BytesMut::with_capacity(input.bytes.len() + 64);
        group.bench_function("martlet", |bencher| {
            bencher.iter(|| {
                written.clear();
                black_box(&packet).encode(black_box(Version::V5), &mut written)
            });
        });
        assert_eq!(&written[..], &input.bytes[..]);

        let mut buffer = BytesMut::from(&input.bytes[..]);
        let theirs = rumqttc::Packet::read(&mut buffer, None).expect("inputs decode");
        let mut written = BytesMut::with_capacity(input.bytes.len() + 64);
        group.bench_function("rumqttc", |bencher| {
            bencher.iter(|| {
                written.clear();
                black_box(&theirs).write(&mut written, None)
            });
        });

        if let Packet::Publish(publish) = packet {
            let payload = Bytes::copy_from_slice(publish.payload);
            let mut head = Vec::with_capacity(64);
            let mut segments: Vec<Bytes> = Vec::with_capacity(1);
            group.bench_function("martlet, shared payload", |bencher| {
                bencher.iter(|| {
                    head.clear();
                    segments.clear();
                    segments.push(payload.clone());
                    black_box(&publish).encode_head(black_box(Version::V5), &mut head)
                });
            });
        }
        let codec = ntex::Codec::new();
        let mut buffer = ntex_bytes::BytesMut::from(&input.bytes[..]);
        let theirs = match codec
            .decode(&mut buffer)
            .expect("inputs decode")
            .expect("whole")
        {
            ntex::Decoded::Packet(packet, _) => ntex::Encoded::Packet(packet),
            ntex::Decoded::Publish(publish, payload, _) => {
                ntex::Encoded::Publish(publish, Some(payload))
            }
            ntex::Decoded::PayloadChunk(..) => unreachable!("nothing is in flight"),
        };
        let mut pages = BytePages::new(BytePageSize::Size16);
        group.bench_function("ntex-mqtt", |bencher| {
            bencher.iter_batched(
                || theirs.clone(),
                |item| {
                    pages.clear();
                    codec.encodev(item, &mut pages)
                },
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = decode, encode
}
criterion_main!(benches);
