//! Users and rights as clients meet them: who may connect, publish, subscribe and receive.

#[path = "limits/ground.rs"]
#[expect(dead_code, reason = "the test of the limits uses the rest")]
mod ground;

use std::{sync::LazyLock, time::Duration};

use ground::{Client, Ground, Told, connect, publish};
use martlet_broker::{
    auth,
    config::{Config, Rights, User},
    counters::Event,
};
use martlet_codec::{
    Connect, Packet, Property, Props, PropsBuf, Publish, QoS, ReasonCode, Version, Will,
};
use tokio::time::sleep;

/// The hash of the password `secret`.
static HASH: LazyLock<String> = LazyLock::new(|| auth::hash_password(b"secret").expect("hash"));

const ACCEPTED: Told = Told::ConnAck(ReasonCode::Success);

fn list(filters: &str) -> Vec<String> {
    filters.split_whitespace().map(str::to_owned).collect()
}

/// A user who may publish and subscribe to `filters`, with the password `secret`.
fn user(name: &str, filters: &str) -> User {
    let rights = Rights {
        publish: list(filters),
        subscribe: list(filters),
        ..Rights::default()
    };
    User {
        name: name.into(),
        password_hash: HASH.clone(),
        rights,
        ..User::default()
    }
}

fn run(set: impl FnOnce(&mut Config), act: impl AsyncFnOnce(Ground)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime
        .expect("runtime")
        .block_on(async { act(Ground::new(set)).await });
}

fn users(users: Vec<User>) -> impl FnOnce(&mut Config) {
    move |config| config.users = users
}

/// CONNECT of `name` with `password` under a client id of the same name.
fn login<'a>(name: &'a str, password: &'a str) -> Connect<'a> {
    Connect {
        client_id: name,
        username: Some(name),
        password: Some(password.as_bytes()),
        ..connect()
    }
}

async fn logged_in(ground: &Ground, name: &str) -> Client {
    let mut client = ground.stream();
    assert_eq!(
        client.connect(&login(name, "secret")).await,
        ACCEPTED,
        "{name}"
    );
    client
}

#[test]
fn a_wrong_password_is_told_in_the_words_of_each_version() {
    run(users(vec![user("ann", "#")]), async |mut ground: Ground| {
        for (n, version) in Version::ALL.into_iter().enumerate() {
            for (name, password) in [("ann", "wrong"), ("eve", "secret")] {
                let told = ground
                    .try_client(&Connect {
                        version,
                        ..login(name, password)
                    })
                    .await;
                assert_eq!(
                    told,
                    Told::ConnAck(ReasonCode::BadUserNameOrPassword),
                    "{name} {version:?}"
                );
            }
            assert_eq!(
                ground.counters().event(Event::AuthFailure),
                2 * (n as u64 + 1)
            );
            assert_eq!(
                ground.logged("Bad user name or password").len(),
                2 * (n + 1)
            );
            let told = ground
                .try_client(&Connect {
                    version,
                    ..login("ann", "secret")
                })
                .await;
            assert_eq!(told, ACCEPTED, "{version:?}");
        }
        let mut client = ground.stream();
        client.send(&Packet::Connect(login("ann", "wrong"))).await;
        let packet = client.packet().await;
        let Packet::ConnAck(connack) = packet.packet() else {
            panic!("{packet:?}")
        };
        assert_eq!(
            connack.props.reason_string(),
            Some("Bad user name or password")
        );
    });
}

#[test]
fn an_anonymous_client_is_told_what_to_set() {
    run(users(vec![user("ann", "#")]), async |mut ground: Ground| {
        for version in Version::ALL {
            let told = ground
                .try_client(&Connect {
                    version,
                    ..connect()
                })
                .await;
            assert_eq!(
                told,
                Told::ConnAck(ReasonCode::NotAuthorized),
                "{version:?}"
            );
        }
        assert_eq!(
            ground.logged("anonymous.allow = true").len(),
            Version::ALL.len()
        );
        ground.reload(|config| config.anonymous.allow = Some(true));
        assert_eq!(ground.try_client(&connect()).await, ACCEPTED);
    });
}

#[test]
fn a_failed_login_touches_nothing() {
    run(users(vec![user("ann", "#")]), async |ground: Ground| {
        let mut client = logged_in(&ground, "ann").await;
        client.subscribe("t").await;
        let mut stranger = ground.stream();
        let told = stranger
            .connect(&Connect {
                clean_start: true,
                ..login("ann", "wrong")
            })
            .await;
        assert_eq!(told, Told::ConnAck(ReasonCode::BadUserNameOrPassword));
        client
            .post(&publish("t", QoS::AtMostOnce, b"still here"))
            .await;
        assert_eq!(
            client.told().await,
            Told::Messages(vec!["still here".into()])
        );
    });
}

#[test]
fn a_session_opens_to_its_own_user_only() {
    run(
        users(vec![user("ann", "#"), user("bob", "#")]),
        async |ground: Ground| {
            let props = PropsBuf::new().with(Property::SessionExpiry(1_000));
            let under = |name| Connect {
                client_id: "shared-name",
                clean_start: false,
                props: props.as_props(),
                ..login(name, "secret")
            };
            let mut ann = ground.stream();
            ann.connect(&under("ann")).await;
            ann.subscribe("t").await;
            ann.leave().await;
            let mut bob = ground.stream();
            bob.send(&Packet::Connect(under("bob"))).await;
            let packet = bob.packet().await;
            let Packet::ConnAck(connack) = packet.packet() else {
                panic!("{packet:?}")
            };
            assert!(!connack.session_present);
        },
    );
}

#[test]
fn a_publication_without_the_right_is_refused_and_goes_nowhere() {
    let all = vec![user("ann", "ann/#"), user("watcher", "#")];
    run(users(all), async |ground: Ground| {
        let mut watcher = logged_in(&ground, "watcher").await;
        watcher.subscribe("#").await;
        let mut ann = logged_in(&ground, "ann").await;
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let told = ann.publish(&publish("bob/x", qos, b"no")).await;
            assert_eq!(told, Told::Acked(ReasonCode::NotAuthorized), "{qos:?}");
            let told = ann.publish(&publish("ann/x", qos, b"yes")).await;
            assert_eq!(told, Told::Acked(ReasonCode::Success), "{qos:?}");
        }
        ann.post(&publish("bob/x", QoS::AtMostOnce, b"no")).await;
        ann.post(&publish("$SYS/broker/uptime", QoS::AtMostOnce, b"no"))
            .await;
        let mut old = ground.stream();
        old.connect(&Connect {
            version: Version::V311,
            client_id: "old",
            ..login("ann", "secret")
        })
        .await;
        let told = old
            .publish(&publish("bob/x", QoS::AtLeastOnce, b"no"))
            .await;
        assert_eq!(
            told,
            Told::Acked(ReasonCode::Success),
            "MQTT 3 has no word for it [MQTT-3.3.5-2]"
        );
        assert_eq!(watcher.messages().await, ["yes", "yes"]);
        assert_eq!(ground.counters().event(Event::PublishDenied), 4);
    });
}

#[test]
fn each_filter_of_a_subscription_is_judged() {
    run(
        users(vec![user("ann", "ann/# both")]),
        async |ground: Ground| {
            let granted = Told::SubAck(ReasonCode::GrantedQos1);
            let denied = Told::SubAck(ReasonCode::NotAuthorized);
            let mut ann = logged_in(&ground, "ann").await;
            for (filter, expected) in [
                ("ann/+/x", &granted),
                ("both", &granted),
                ("#", &denied),
                ("+/x", &denied),
                ("ann", &granted),
                ("$share/group/ann/#", &granted),
                ("$share/group/bob/#", &denied),
                ("$share/ann/#", &denied),
                ("$SYS/#", &denied),
            ] {
                assert_eq!(&ann.subscribe(filter).await, expected, "{filter}");
            }
            let mut old = ground.stream();
            old.connect(&Connect {
                version: Version::V311,
                client_id: "old",
                ..login("ann", "secret")
            })
            .await;
            assert_eq!(
                old.subscribe("bob").await,
                Told::SubAck(ReasonCode::UnspecifiedError)
            );
            ground.reload(|config| config.compat.obscure_not_authorized = true);
            let mut ann = logged_in(&ground, "ann").await;
            assert_eq!(
                ann.subscribe("bob").await,
                Told::SubAck(ReasonCode::UnspecifiedError)
            );
            let told = ann.publish(&publish("bob", QoS::AtLeastOnce, b"no")).await;
            assert_eq!(told, Told::Acked(ReasonCode::UnspecifiedError));
        },
    );
}

#[test]
fn denied_topics_are_hidden_from_wider_subscriptions() {
    let set = |config: &mut Config| {
        config.users = vec![user("ann", "#"), user("writer", "#")];
        config.users[0].rights.deny_subscribe = list("home/alarm/#");
    };
    run(set, async |ground: Ground| {
        let mut writer = logged_in(&ground, "writer").await;
        let retained = |topic| Publish {
            retain: true,
            ..publish(topic, QoS::AtLeastOnce, topic.as_bytes())
        };
        for topic in ["home/alarm", "home/alarm/code", "home/lamp"] {
            writer.publish(&retained(topic)).await;
        }
        let mut ann = logged_in(&ground, "ann").await;
        assert_eq!(
            ann.subscribe("home/alarm/code").await,
            Told::SubAck(ReasonCode::NotAuthorized)
        );
        assert_eq!(
            ann.subscribe("home/#").await,
            Told::SubAck(ReasonCode::GrantedQos1)
        );
        assert_eq!(ann.messages().await, ["home/lamp"], "retained messages");
        for topic in ["home/alarm/code", "home/door"] {
            writer
                .publish(&publish(topic, QoS::AtLeastOnce, topic.as_bytes()))
                .await;
        }
        assert_eq!(ann.messages().await, ["home/door"], "live messages");
        ground.reload(|config| config.users[0].rights.deny_subscribe.clear());
        writer
            .publish(&publish(
                "home/alarm/code",
                QoS::AtLeastOnce,
                b"after the reload",
            ))
            .await;
        assert_eq!(ann.messages().await, ["after the reload"]);
    });
}

#[test]
fn a_will_is_judged_at_connect_and_when_it_fires() {
    let all = vec![user("ann", "ann/#"), user("watcher", "#")];
    run(users(all), async |mut ground: Ground| {
        let mut watcher = logged_in(&ground, "watcher").await;
        watcher.subscribe("#").await;
        let will = |topic| Will {
            qos: QoS::AtMostOnce,
            retain: false,
            props: Props::EMPTY,
            topic,
            payload: b"will",
        };
        let told = ground
            .try_client(&Connect {
                will: Some(will("bob/gone")),
                ..login("ann", "secret")
            })
            .await;
        assert_eq!(told, Told::ConnAck(ReasonCode::NotAuthorized));

        let mut ann = ground.stream();
        let told = ann
            .connect(&Connect {
                will: Some(will("ann/gone")),
                ..login("ann", "secret")
            })
            .await;
        assert_eq!(told, ACCEPTED);
        drop(ann);
        assert_eq!(watcher.told().await, Told::Messages(vec!["will".into()]));

        let mut ann = ground.stream();
        ann.connect(&Connect {
            will: Some(will("ann/gone")),
            ..login("ann", "secret")
        })
        .await;
        ground.reload(|config| config.users[0].rights.publish = list("elsewhere"));
        drop(ann);
        assert_eq!(watcher.told().await, Told::Nothing);
    });
}

#[test]
fn a_reload_changes_the_rights_of_those_who_are_connected() {
    let all = vec![user("ann", "ann/#"), user("bob", "bob/#")];
    run(users(all), async |ground: Ground| {
        let mut bob = logged_in(&ground, "bob").await;
        let to = |topic| publish(topic, QoS::AtLeastOnce, b"x");
        let (taken, denied) = (
            Told::Acked(ReasonCode::NoMatchingSubscribers),
            Told::Acked(ReasonCode::NotAuthorized),
        );
        assert_eq!(bob.publish(&to("bob/x")).await, taken);
        ground.reload(|config| config.users[1].rights.publish = list("new/#"));
        assert_eq!(bob.publish(&to("bob/x")).await, denied);
        assert_eq!(bob.publish(&to("new/x")).await, taken);
        // Whoever is gone has no rights, and does not get those of another who takes the place in the table.
        ground.reload(|config| config.users = vec![user("ann", "ann/#"), user("cleo", "#")]);
        assert_eq!(bob.publish(&to("new/x")).await, denied);
        let mut stranger = ground.stream();
        let told = stranger.connect(&login("bob", "secret")).await;
        assert_eq!(told, Told::ConnAck(ReasonCode::BadUserNameOrPassword));
    });
}

#[test]
fn subscriptions_that_rights_no_longer_cover_bring_what_they_still_permit() {
    let all = vec![user("ann", "#"), user("bob", "t/#")];
    run(users(all), async |ground: Ground| {
        let mut ann = logged_in(&ground, "ann").await;
        let mut bob = logged_in(&ground, "bob").await;
        let lasting = PropsBuf::new().with(Property::SessionExpiry(1_000));
        let away = Connect {
            client_id: "away",
            clean_start: false,
            props: lasting.as_props(),
            ..login("bob", "secret")
        };
        let mut sleeper = ground.stream();
        assert_eq!(sleeper.connect(&away).await, ACCEPTED);
        for client in [&mut bob, &mut sleeper] {
            client.subscribe("t/#").await;
        }
        let mut say = async |payload: &'static str| {
            for topic in ["t/secret/1", "t/open"] {
                let payload = format!("{topic} {payload}");
                ann.publish(&publish(topic, QoS::AtLeastOnce, payload.as_bytes()))
                    .await;
            }
        };
        sleeper.leave().await;
        ground.reload(|config| config.users[1].rights.subscribe = list("t/open"));
        say("narrowed").await;
        assert_eq!(bob.messages().await, ["t/open narrowed"]);
        // The rights of the one who is away were narrowed as well, and are when it is back.
        let mut sleeper = ground.stream();
        assert_eq!(sleeper.connect(&away).await, ACCEPTED);
        assert_eq!(sleeper.messages().await, ["t/open narrowed"]);
        say("again").await;
        assert_eq!(bob.messages().await, ["t/open again"]);
        assert_eq!(sleeper.messages().await, ["t/open again"]);
        ground.reload(|config| {
            config.users.pop();
        });
        say("gone").await;
        assert_eq!(bob.told().await, Told::Nothing);
        assert_eq!(sleeper.told().await, Told::Nothing);
        ground.reload(|config| config.users.push(user("bob", "t/#")));
        say("back").await;
        assert_eq!(bob.messages().await, ["t/secret/1 back", "t/open back"]);
    });
}

#[test]
fn wrong_users_are_refused_by_key_and_leave_the_old_ones() {
    run(users(vec![user("ann", "#")]), async |ground: Ground| {
        let mut config = (*ground.broker.config()).clone();
        config.users.push(User {
            password_hash: "plain".into(),
            ..user("bob", "#")
        });
        let error = ground.broker.reload(config).expect_err("refused");
        assert_eq!(error.key, "users[1].password_hash");
        logged_in(&ground, "ann").await;
    });
}

#[test]
fn a_client_that_waits_for_its_login_holds_nobody_up() {
    run(users(vec![user("ann", "#")]), async |ground: Ground| {
        ground.reload(|config| config.anonymous.allow = Some(true));
        let mut slow = ground.stream();
        slow.send(&Packet::Connect(login("ann", "secret"))).await;
        let mut quick = ground.stream();
        assert_eq!(quick.connect(&connect()).await, ACCEPTED);
        assert_eq!(slow.told().await, ACCEPTED);
        // Whoever gives up while waiting leaves nothing behind.
        let mut gone = ground.stream();
        gone.send(&Packet::Connect(login("ann", "wrong"))).await;
        drop(gone);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(ground.broker.clients_connected(), 2);
    });
}
