//! Limits on what waits for a client.

use std::time::Duration;

use martlet_broker::{config::QueueOverflow, counters::Limit};
use martlet_codec::{Connect, Property, PropsBuf, QoS, ReasonCode};
use tokio::time::sleep;

use super::{
    Row,
    ground::{Client, Ground, Told, connect, publish},
};

/// A session with the subscription `q`, whose client has left.
async fn absent(ground: &Ground) {
    let mut client = ground.client("s").await;
    assert_eq!(
        client.subscribe("q").await,
        Told::SubAck(ReasonCode::GrantedQos1)
    );
    client.leave().await;
}

/// A connected client with the subscription `q` that acknowledges nothing and takes `window` messages unacknowledged.
async fn silent(ground: &Ground, window: u16) -> Client {
    let props = PropsBuf::new()
        .with(Property::SessionExpiry(1_000))
        .with(Property::ReceiveMaximum(window));
    let mut client = ground.stream();
    let told = client
        .connect(&Connect {
            client_id: "s",
            props: props.as_props(),
            ..connect()
        })
        .await;
    assert_eq!(told, Told::ConnAck(ReasonCode::Success));
    assert_eq!(
        client.subscribe("q").await,
        Told::SubAck(ReasonCode::GrantedQos1)
    );
    client
}

/// Publishes these payloads to `q` at QoS 1.
async fn post(ground: &Ground, payloads: &[&str]) -> Told {
    let mut client = ground.client("p").await;
    let mut told = Told::Nothing;
    for payload in payloads {
        told = client
            .publish(&publish("q", QoS::AtLeastOnce, payload.as_bytes()))
            .await;
    }
    client.leave().await;
    told
}

async fn came_back(ground: &Ground) -> Told {
    Told::Messages(ground.client("s").await.messages().await)
}

fn messages(payloads: &[&str]) -> Told {
    Told::Messages(
        payloads
            .iter()
            .map(|payload| (*payload).to_owned())
            .collect(),
    )
}

/// Publishes `count` messages of about 1,000 bytes to `q` at QoS 0.
async fn pour(ground: &Ground, count: usize) -> Told {
    let mut client = ground.client("p").await;
    for _ in 0..count {
        client
            .post(&publish("q", QoS::AtMostOnce, &[b'x'; 990]))
            .await;
    }
    client.leave().await;
    Told::Nothing
}

/// A client with the subscription `q` that does not read, behind a pipe of 64 bytes.
async fn unread(ground: &mut Ground) {
    let mut client = ground.narrow_stream(64);
    let told = client
        .connect(&Connect {
            client_id: "s",
            ..connect()
        })
        .await;
    assert_eq!(told, Told::ConnAck(ReasonCode::Success));
    assert_eq!(
        client.subscribe("q").await,
        Told::SubAck(ReasonCode::GrantedQos1)
    );
    ground.kept.push(client);
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            limit: Limit::QueuedMessagesMax,
            what: "the oldest goes",
            set: |config| config.limits.queued_messages_max = 2,
            within: |ground| {
                Box::pin(async {
                    absent(ground).await;
                    post(ground, &["1", "2"]).await
                })
            },
            within_told: Told::Acked(ReasonCode::Success),
            beyond: |ground| {
                Box::pin(async {
                    post(ground, &["3"]).await;
                    came_back(ground).await
                })
            },
            beyond_told: messages(&["2", "3"]),
        },
        Row {
            limit: Limit::QueuedMessagesMax,
            what: "the newest goes",
            set: |config| {
                config.limits.queued_messages_max = 2;
                config.limits.queue_overflow = QueueOverflow::DropNewest;
            },
            within: |ground| {
                Box::pin(async {
                    absent(ground).await;
                    post(ground, &["1", "2"]).await
                })
            },
            within_told: Told::Acked(ReasonCode::Success),
            beyond: |ground| {
                Box::pin(async {
                    post(ground, &["3"]).await;
                    came_back(ground).await
                })
            },
            beyond_told: messages(&["1", "2"]),
        },
        Row {
            limit: Limit::QueuedMessagesMax,
            what: "the client goes",
            set: |config| {
                config.limits.queued_messages_max = 2;
                config.limits.queue_overflow = QueueOverflow::Disconnect;
            },
            within: |ground| {
                Box::pin(async {
                    let mut client = silent(ground, 1).await;
                    // One in flight, two waiting.
                    post(ground, &["1", "2", "3"]).await;
                    let told = client.told().await;
                    ground.kept.push(client);
                    told
                })
            },
            within_told: messages(&["1"]),
            beyond: |ground| {
                Box::pin(async {
                    post(ground, &["4"]).await;
                    ground.kept[0].told().await
                })
            },
            beyond_told: Told::Disconnect(ReasonCode::QuotaExceeded),
        },
        Row {
            limit: Limit::QueuedBytesMax,
            what: "",
            // Topic and payload of each message are ten bytes.
            set: |config| config.limits.queued_bytes_max = 20,
            within: |ground| {
                Box::pin(async {
                    absent(ground).await;
                    post(ground, &["1........", "2........"]).await
                })
            },
            within_told: Told::Acked(ReasonCode::Success),
            beyond: |ground| {
                Box::pin(async {
                    post(ground, &["3"]).await;
                    came_back(ground).await
                })
            },
            beyond_told: messages(&["2........", "3"]),
        },
        Row {
            limit: Limit::InflightExpiry,
            what: "",
            set: |config| {
                config.limits.queued_messages_max = 2;
                config.limits.inflight_expiry = Duration::from_secs(100);
            },
            within: |ground| {
                Box::pin(async {
                    let mut client = silent(ground, 1).await;
                    post(ground, &["1", "2", "3"]).await;
                    let told = client.told().await;
                    client.leave().await;
                    told
                })
            },
            within_told: messages(&["1"]),
            beyond: |ground| {
                Box::pin(async {
                    sleep(Duration::from_secs(101)).await;
                    post(ground, &["4"]).await;
                    came_back(ground).await
                })
            },
            // What was in flight for too long made room in the queue.
            beyond_told: messages(&["2", "3", "4"]),
        },
        Row {
            limit: Limit::PendingBytesMax,
            what: "",
            set: |config| config.limits.pending_bytes_max = 4_096,
            within: |ground| {
                Box::pin(async {
                    unread(ground).await;
                    // The fifth comes while less than the limit waits.
                    pour(ground, 5).await
                })
            },
            within_told: Told::Nothing,
            beyond: |ground| {
                Box::pin(async {
                    pour(ground, 1).await;
                    let got = ground.kept[0].messages().await;
                    Told::Messages(
                        got.iter()
                            .map(|payload| payload.len().to_string())
                            .collect(),
                    )
                })
            },
            beyond_told: messages(&["990", "990", "990", "990", "990"]),
        },
        Row {
            limit: Limit::SlowConsumerTimeout,
            what: "",
            set: |config| config.limits.slow_consumer_timeout = Duration::from_mins(1),
            within: |ground| {
                Box::pin(async {
                    unread(ground).await;
                    pour(ground, 2).await;
                    sleep(Duration::from_secs(59)).await;
                    // Whoever reads again is forgiven.
                    Told::Messages(vec![ground.kept[0].messages().await.len().to_string()])
                })
            },
            within_told: messages(&["2"]),
            beyond: |ground| {
                Box::pin(async {
                    pour(ground, 2).await;
                    sleep(Duration::from_secs(100)).await;
                    let ended = ground.kept[0].ends_within(Duration::from_secs(1)).await;
                    if ended { Told::Closed } else { Told::Nothing }
                })
            },
            beyond_told: Told::Closed,
        },
    ]
}
