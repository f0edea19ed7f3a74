//! Rates, connections of a user, and clients that come back too often.

use std::time::Duration;

use martlet_broker::{
    ListenerOptions,
    config::{ListenerPolicy, RateExceeded},
    counters::Limit,
};
use martlet_codec::{Connect, QoS, ReasonCode};
use tokio::time::{Instant, sleep};

use super::{
    Row,
    ground::{Client, Ground, Told, connect, publish},
};

const ACCEPTED: Told = Told::ConnAck(ReasonCode::Success);
/// Nobody subscribes.
const TAKEN: Told = Told::Acked(ReasonCode::NoMatchingSubscribers);

async fn send(client: &mut Client) -> Told {
    client.publish(&publish("t", QoS::AtLeastOnce, b"x")).await
}

/// The client that stays connected, or a new one, sends a message.
async fn one_more(ground: &mut Ground) -> Told {
    let mut client = match ground.kept.pop() {
        Some(client) => client,
        None => ground.client("p").await,
    };
    let told = send(&mut client).await;
    ground.kept.push(client);
    told
}

/// A client of this name and user.
async fn of_user(ground: &mut Ground, client_id: &str, username: &str) -> Told {
    ground
        .try_client(&Connect {
            client_id,
            username: Some(username),
            ..connect()
        })
        .await
}

/// Two clients of one user, or of the listener `door`, of which the second sends.
async fn second_client(ground: &mut Ground) -> Told {
    let mut client = ground.stream();
    let told = client
        .connect(&Connect {
            client_id: "second",
            username: Some("ann"),
            ..connect()
        })
        .await;
    assert_eq!(told, ACCEPTED);
    let told = send(&mut client).await;
    ground.kept.push(client);
    told
}

/// A listener whose clients may send one message a second together.
async fn open_door(ground: &Ground) {
    let mut policy = ListenerPolicy::default();
    policy.rates.all.messages_in = 1;
    let address = "tcp://127.0.0.1:0".parse().expect("an address");
    let options = ListenerOptions::default();
    let opened = ground
        .broker
        .listen_with("door", &address, &options, policy);
    opened.await.expect("a free port");
}

async fn at_door(ground: &mut Ground, client_id: &str) -> Told {
    let mut client = ground.stream_at("door");
    let told = client
        .connect(&Connect {
            client_id,
            ..connect()
        })
        .await;
    assert_eq!(told, ACCEPTED);
    let told = send(&mut client).await;
    ground.kept.push(client);
    told
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            limit: Limit::RateClient,
            what: "waits",
            set: |config| config.rates.client.messages_in = 1,
            within: |ground| Box::pin(one_more(ground)),
            within_told: TAKEN,
            // At the same instant; it is answered a little later.
            beyond: |ground| Box::pin(one_more(ground)),
            beyond_told: TAKEN,
        },
        Row {
            limit: Limit::RateClient,
            what: "disconnects",
            set: |config| {
                config.rates.client.messages_in = 1;
                config.rates.exceeded = RateExceeded::Disconnect;
            },
            within: |ground| Box::pin(one_more(ground)),
            within_told: TAKEN,
            beyond: |ground| Box::pin(one_more(ground)),
            beyond_told: Told::Disconnect(ReasonCode::MessageRateTooHigh),
        },
        Row {
            limit: Limit::RateClient,
            what: "bytes",
            set: |config| {
                config.rates.client.bytes_in = 8;
                config.rates.exceeded = RateExceeded::Disconnect;
            },
            within: |ground| Box::pin(one_more(ground)),
            within_told: TAKEN,
            beyond: |ground| Box::pin(one_more(ground)),
            beyond_told: Told::Disconnect(ReasonCode::MessageRateTooHigh),
        },
        Row {
            limit: Limit::RateUser,
            what: "",
            set: |config| {
                config.rates.user.messages_in = 1;
                config.rates.exceeded = RateExceeded::Disconnect;
            },
            within: |ground| {
                Box::pin(async {
                    // Without a user name, nothing is counted.
                    assert_eq!(one_more(ground).await, TAKEN);
                    assert_eq!(one_more(ground).await, TAKEN);
                    of_user(ground, "first", "ann").await;
                    one_more(ground).await
                })
            },
            within_told: TAKEN,
            beyond: |ground| Box::pin(second_client(ground)),
            beyond_told: Told::Disconnect(ReasonCode::MessageRateTooHigh),
        },
        Row {
            limit: Limit::RateListener,
            what: "",
            set: |config| config.rates.exceeded = RateExceeded::Disconnect,
            within: |ground| {
                Box::pin(async {
                    open_door(ground).await;
                    // Elsewhere, nothing is counted.
                    assert_eq!(one_more(ground).await, TAKEN);
                    assert_eq!(one_more(ground).await, TAKEN);
                    at_door(ground, "first").await
                })
            },
            within_told: TAKEN,
            beyond: |ground| Box::pin(at_door(ground, "second")),
            beyond_told: Told::Disconnect(ReasonCode::MessageRateTooHigh),
        },
        Row {
            limit: Limit::ConnectionsPerUserMax,
            what: "",
            set: |config| config.limits.connections_per_user_max = 2,
            within: |ground| {
                Box::pin(async {
                    assert_eq!(of_user(ground, "a", "ann").await, ACCEPTED);
                    assert_eq!(of_user(ground, "b", "ann").await, ACCEPTED);
                    assert_eq!(of_user(ground, "x", "bob").await, ACCEPTED);
                    // In the place of its own former connection.
                    of_user(ground, "b", "ann").await
                })
            },
            within_told: ACCEPTED,
            beyond: |ground| Box::pin(of_user(ground, "c", "ann")),
            beyond_told: Told::ConnAck(ReasonCode::QuotaExceeded),
        },
        Row {
            limit: Limit::FlappingConnectsMax,
            what: "",
            set: |config| config.flapping.connects_max = 2,
            within: |ground| {
                Box::pin(async {
                    for _ in 0..3 {
                        ground.client("other").await.leave().await;
                        sleep(Duration::from_mins(1)).await;
                    }
                    ground.client("s").await.leave().await;
                    ground.try_client(&named("s")).await
                })
            },
            within_told: ACCEPTED,
            beyond: |ground| Box::pin(async { ground.try_client(&named("s")).await }),
            beyond_told: Told::ConnAck(ReasonCode::Banned),
        },
    ]
}

fn named(client_id: &str) -> Connect<'_> {
    Connect {
        client_id,
        ..connect()
    }
}

/// Runs `what` in virtual time.
fn run(set: fn(&mut martlet_broker::config::Config), what: impl AsyncFnOnce(Ground)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async { what(Ground::new(set)).await });
}

#[test]
fn a_fast_sender_is_read_at_its_rate_and_loses_nothing() {
    let set = |config: &mut martlet_broker::config::Config| {
        config.rates.client.messages_in = 100;
    };
    run(set, async |ground| {
        let mut subscriber = ground.client("s").await;
        subscriber.subscribe("t").await;
        let mut publisher = ground.client("p").await;
        let began = Instant::now();
        for number in 0..600 {
            let payload = format!("{number}");
            let packet = publish("t", QoS::AtMostOnce, payload.as_bytes());
            publisher.post(&packet).await;
        }
        let messages = subscriber.first_messages(600).await;
        let expected: Vec<String> = (0..600).map(|number| number.to_string()).collect();
        assert_eq!(messages, expected);
        let secs = began.elapsed().as_secs_f64();
        assert!(
            (4.9..5.2).contains(&secs),
            "600 at 100 a second after 100: {secs}"
        );
    });
}

#[test]
fn a_subscriber_is_written_to_at_its_rate_in_whole_packets() {
    let set = |config: &mut martlet_broker::config::Config| {
        config.rates.client.messages_out = 50;
    };
    run(set, async |ground| {
        let mut subscriber = ground.client("s").await;
        subscriber.subscribe("t").await;
        let mut publisher = ground.client("p").await;
        let began = Instant::now();
        // Small ones and shared ones.
        for number in 0..200 {
            let payload = vec![b'0' + number % 10; if number % 3 == 0 { 2_000 } else { 10 }];
            publisher
                .post(&publish("t", QoS::AtMostOnce, &payload))
                .await;
        }
        let messages = subscriber.first_messages(200).await;
        for (number, message) in (0_u8..).zip(&messages) {
            assert!(message.bytes().all(|byte| byte == b'0' + number % 10));
        }
        let secs = began.elapsed().as_secs_f64();
        assert!(
            (2.9..3.2).contains(&secs),
            "200 at 50 a second after 50: {secs}"
        );
        // Whoever waits for its turn can be disconnected.
        for _ in 0..200 {
            publisher.post(&publish("t", QoS::AtMostOnce, b"x")).await;
        }
        sleep(Duration::from_millis(10)).await;
        assert!(
            ground
                .broker
                .disconnect("s", ReasonCode::AdministrativeAction)
        );
        assert!(subscriber.ends_within(Duration::from_secs(2)).await);
    });
}

#[test]
fn bytes_to_a_client_leave_at_their_rate() {
    let set = |config: &mut martlet_broker::config::Config| {
        config.rates.client.bytes_out = 10_000;
    };
    run(set, async |ground| {
        let mut subscriber = ground.client("s").await;
        subscriber.subscribe("t").await;
        let mut publisher = ground.client("p").await;
        let began = Instant::now();
        for _ in 0..5 {
            publisher
                .post(&publish("t", QoS::AtMostOnce, &[0; 10_000]))
                .await;
        }
        assert_eq!(subscriber.first_messages(5).await.len(), 5);
        let secs = began.elapsed().as_secs_f64();
        // The first two at once: one within the burst, one that is paid for afterwards.
        assert!((2.9..4.2).contains(&secs), "{secs}");
    });
}

#[test]
fn a_ban_ends_and_can_be_lifted() {
    run(
        |config| config.flapping.connects_max = 1,
        async |mut ground| {
            let banned = Told::ConnAck(ReasonCode::Banned);
            assert_eq!(ground.try_client(&named("c")).await, ACCEPTED);
            assert_eq!(ground.try_client(&named("c")).await, banned);
            let bans = ground.broker.banned();
            assert_eq!((bans.len(), &*bans[0].client_id), (1, "c"));
            sleep(Duration::from_mins(5)).await;
            assert_eq!(ground.try_client(&named("c")).await, ACCEPTED);
            assert_eq!(ground.try_client(&named("c")).await, banned);
            assert!(ground.broker.lift_ban("c"));
            assert_eq!(ground.try_client(&named("c")).await, ACCEPTED);
        },
    );
}

#[test]
fn garbage_costs_a_few_lines_however_much_of_it_comes() {
    run(
        |_| {},
        async |ground| {
            for _ in 0..100 {
                let mut stranger = ground.stream();
                stranger.send_bytes(b"GET / HTTP/1.1\r\n\r\n").await;
                assert!(stranger.ends_within(Duration::from_secs(5)).await);
            }
            let lines = ground.logged("connect_refused").len();
            assert!((1..=20).contains(&lines), "{lines} lines");
            assert_eq!(
                ground.client("c").await.told().await,
                Told::Nothing,
                "served as ever"
            );
        },
    );
}
