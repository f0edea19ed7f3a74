//! The whole broker in virtual time: a run is a function of its seed, and days pass in milliseconds.

use std::time::Duration;

use martlet_broker::Broker;
use martlet_client::RawConnection;
use martlet_codec::{Connect, Packet, Property, PropsBuf, QoS, Version, Will};
use tokio::time::Instant;

use crate::ground::{connect_packet, open, payload, publish, quiet, send, subscribed};

/// A small generator, so that the script is a function of the seed alone (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}

async fn connect_v5(broker: &Broker, connect: Connect<'_>) -> RawConnection {
    let mut client = open(broker, Version::V5);
    send(&mut client, Packet::Connect(connect)).await;
    client.receive().await.expect("CONNACK");
    client
}

/// Runs a random script of publications, losses, resumes and pauses; returns everything a witness saw, with times.
fn run(seed: u64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async {
        let broker = Broker::builder()
            .config(quiet())
            .seed(seed)
            .start()
            .expect("sound settings");
        let began = Instant::now();
        let mut witness = connect_v5(&broker, connect_packet("witness", Version::V5, true)).await;
        subscribed(&mut witness, "#", QoS::AtMostOnce).await;
        let mut dice = Dice(seed);
        let mut witnessed = Vec::new();
        let mut actors: Vec<Option<RawConnection>> = (0..4).map(|_| None).collect();
        for step in 0..200 {
            let at = usize::try_from(dice.roll(4)).expect("small");
            let name = format!("actor-{at}");
            match (dice.roll(4), actors[at].take()) {
                (0, None) => {
                    let props = PropsBuf::new().with(Property::SessionExpiry(120));
                    let delay = PropsBuf::new().with(Property::WillDelay(
                        u32::try_from(dice.roll(180)).expect("small"),
                    ));
                    let text = format!("{name} left at step {step}");
                    let connect = Connect {
                        props: props.as_props(),
                        keep_alive_secs: 60,
                        will: Some(Will {
                            qos: QoS::AtMostOnce,
                            retain: false,
                            props: delay.as_props(),
                            topic: "wills",
                            payload: text.as_bytes(),
                        }),
                        ..connect_packet(&name, Version::V5, dice.roll(2) == 0)
                    };
                    actors[at] = Some(connect_v5(&broker, connect).await);
                }
                (1, actor) => {
                    drop(actor);
                }
                (2, Some(mut actor)) => {
                    let text = format!("{name} at step {step}");
                    if actor
                        .send(&publish("talk", &text, QoS::AtMostOnce, 0))
                        .await
                        .is_ok()
                    {
                        actors[at] = Some(actor);
                    }
                }
                (_, actor) => {
                    actors[at] = actor;
                    tokio::time::sleep(Duration::from_secs(dice.roll(40))).await;
                }
            }
            // A PINGREQ keeps the witness alive and marks where its messages end.
            send(&mut witness, Packet::PingReq).await;
            loop {
                let packet = witness.receive().await.expect("a packet");
                match packet.packet() {
                    Packet::Publish(publish) => witnessed.push(format!(
                        "{:?} {} {}",
                        began.elapsed(),
                        publish.topic,
                        String::from_utf8_lossy(publish.payload)
                    )),
                    _ => break,
                }
            }
        }
        witnessed
    })
}

#[test]
fn a_run_repeats_itself_from_its_seed() {
    for seed in 0..4 {
        let first = run(seed);
        assert!(first.len() > 20, "seed {seed} showed little: {first:?}");
        assert_eq!(first, run(seed), "seed {seed}");
    }
}

#[test]
fn a_day_of_silence_ends_at_one_and_a_half_keep_alives() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async {
        let broker = Broker::builder()
            .config(quiet())
            .seed(1)
            .start()
            .expect("sound settings");
        let mut witness = connect_v5(&broker, connect_packet("witness", Version::V5, true)).await;
        subscribed(&mut witness, "gone", QoS::AtMostOnce).await;
        let began = Instant::now();
        // 43,691 s and more overflow a sum in sixteen bits.
        let connect = Connect {
            keep_alive_secs: 50_000,
            will: Some(Will {
                qos: QoS::AtMostOnce,
                retain: false,
                props: martlet_codec::Props::EMPTY,
                topic: "gone",
                payload: b"now",
            }),
            ..connect_packet("silent", Version::V5, true)
        };
        let _silent = connect_v5(&broker, connect).await;
        let mut witness = witness.limit(Duration::from_secs(100_000));
        assert_eq!(payload(&mut witness).await, "now");
        let after = began.elapsed();
        let due = Duration::from_mins(1_250);
        assert!(
            due <= after && after < due + Duration::from_secs(1),
            "ended after {after:?}"
        );
    });
}
