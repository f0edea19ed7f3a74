//! The retained message of a topic is the last one that live subscribers saw, whoever published at the same time
//! (rule 11); what cannot be retained is delivered all the same and said.

use std::sync::Arc;

use martlet_broker::counters::Limit;
use martlet_client::RawConnection;
use martlet_codec::{Connect, Packet, Publish, QoS, Version, Will};
use tokio::sync::Barrier;

use crate::ground::{
    connect_packet, connected, expect_suback, open, payload, quiet, send, send_subscribe,
    subscribed,
};

const PUBLISHERS: usize = 4;
const ROUNDS: usize = 200;

async fn publish_retained(client: &mut RawConnection, topic: &str, text: &str) {
    let packet = Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: true,
        topic,
        id: None,
        props: martlet_codec::Props::EMPTY,
        payload: text.as_bytes(),
    });
    send(client, packet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publishers_of_one_topic_at_once_leave_what_live_subscribers_saw_last() {
    let broker = crate::ground::builder().start().expect("sound settings");
    let mut witnesses = Vec::new();
    // Many of them, so that a route takes long enough to be overtaken.
    for number in 0..32 {
        let mut witness = connected(&broker, &format!("witness {number}"), true).await;
        subscribed(&mut witness, "t", QoS::AtMostOnce).await;
        witnesses.push(witness);
    }
    let round = Arc::new(Barrier::new(PUBLISHERS + 1));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let (broker, round) = (broker.clone(), Arc::clone(&round));
            tokio::spawn(async move {
                let mut client = connected(&broker, &format!("publisher {number}"), true).await;
                for turn in 0..ROUNDS {
                    round.wait().await;
                    publish_retained(&mut client, "t", &format!("{number} in {turn}")).await;
                }
            })
        })
        .collect();
    for turn in 0..ROUNDS {
        round.wait().await;
        for (number, witness) in witnesses.iter_mut().enumerate() {
            let mut last = String::new();
            for _ in 0..PUBLISHERS {
                last = payload(witness).await;
            }
            send_subscribe(witness, 2, "t", QoS::AtMostOnce).await;
            expect_suback(witness, 2, QoS::AtMostOnce).await;
            assert_eq!(
                payload(witness).await,
                last,
                "witness {number}, round {turn}"
            );
        }
    }
    for publisher in publishers {
        publisher.await.expect("no publisher fails");
    }
}

#[tokio::test]
async fn a_will_above_the_limit_of_retained_messages_is_delivered_live_and_counted() {
    let mut config = quiet();
    config.limits.retained_messages_max = 1;
    let broker = martlet_broker::Broker::builder()
        .config(config)
        .start()
        .expect("sound settings");
    let mut witness = connected(&broker, "witness", true).await;
    subscribed(&mut witness, "#", QoS::AtMostOnce).await;
    publish_retained(&mut witness, "full", "the only one").await;
    assert_eq!(payload(&mut witness).await, "the only one");

    let mut leaver = open(&broker, Version::V311);
    let connect = Connect {
        will: Some(Will {
            qos: QoS::AtMostOnce,
            retain: true,
            props: martlet_codec::Props::EMPTY,
            topic: "will",
            payload: b"gone",
        }),
        ..connect_packet("leaver", Version::V311, true)
    };
    send(&mut leaver, Packet::Connect(connect)).await;
    leaver.receive().await.expect("CONNACK");
    drop(leaver);
    assert_eq!(payload(&mut witness).await, "gone");
    assert_eq!(broker.counters().limit(Limit::RetainedMessagesMax), 1);

    send_subscribe(&mut witness, 2, "#", QoS::AtMostOnce).await;
    expect_suback(&mut witness, 2, QoS::AtMostOnce).await;
    assert_eq!(payload(&mut witness).await, "the only one");
    crate::ground::expect_silence(&mut witness).await;
}
