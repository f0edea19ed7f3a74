//! What a listener holds its clients to: versions, users, offers, and topics of their own.

use std::time::Duration;

use martlet_broker::{
    Broker, ListenerOptions,
    auth::hash_password,
    config::{Config, ListenerPolicy, ProtocolVersion, User},
};
use martlet_client::{
    Client, ConnectError, ConnectOptions, Event, Events, PublishRequest, RawConnection,
    ReceivedMessage, WillMessage,
};
use martlet_codec::{
    Connect, Packet, Property, Props, PropsBuf, Publish, QoS, ReasonCode, SubscribeOptions, Version,
};

/// Longest wait for anything. Never a measure: a test that needs it has failed.
const DEADLINE: Duration = Duration::from_mins(1);

/// A broker with a few listeners.
struct Ground {
    broker: Broker,
}

impl Ground {
    fn new(config: Config) -> Self {
        let broker = Broker::builder().config(config).start().expect("settings");
        Self { broker }
    }

    async fn open(&self, id: &str, set: impl FnOnce(&mut ListenerPolicy)) {
        let mut policy = ListenerPolicy::default();
        set(&mut policy);
        let address = "tcp://127.0.0.1:0".parse().expect("an address");
        let options = ListenerOptions::default();
        let opened = self.broker.listen_with(id, &address, &options, policy);
        opened.await.expect("a free port");
    }

    /// A broker with the listeners `plain` and `site` (mount point `site/`).
    async fn with_site() -> Self {
        let ground = Self::new(Config::default());
        ground.open("plain", |_| {}).await;
        ground
            .open("site", |policy| policy.mount_point = "site/".into())
            .await;
        ground
    }

    async fn try_client(
        &self,
        listener: &str,
        options: ConnectOptions,
    ) -> Result<(Client, Events), ConnectError> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        assert!(self.broker.attach_to(listener, theirs, "test"));
        Client::connect_over(ours, options.connect_timeout(DEADLINE)).await
    }

    async fn client(&self, listener: &str, options: ConnectOptions) -> (Client, Events) {
        let client = self.try_client(listener, options).await;
        client.unwrap_or_else(|error| panic!("{listener}: {error}"))
    }

    async fn refusal(&self, listener: &str, options: ConnectOptions) -> Option<ReasonCode> {
        match self.try_client(listener, options).await {
            Ok(_) => None,
            Err(ConnectError::Refused { reason, .. }) => Some(reason),
            Err(other) => panic!("{other}"),
        }
    }
}

fn named(client_id: &str) -> ConnectOptions {
    ConnectOptions::default().client_id(client_id)
}

async fn subscribe(client: &Client, filter: &str) -> Result<(), ReasonCode> {
    let options = SubscribeOptions::qos(QoS::ExactlyOnce);
    let codes = client
        .subscribe([(filter, options)])
        .await
        .expect("answered");
    match codes.first() {
        Some(code) if code.is_error() => Err(*code),
        _ => Ok(()),
    }
}

async fn publish(client: &Client, topic: &str, payload: &'static str) -> ReasonCode {
    let request = PublishRequest::new(topic, payload).qos(QoS::AtLeastOnce);
    client.publish(request).await.expect("answered").reason
}

async fn next(events: &mut Events) -> ReceivedMessage {
    let event = tokio::time::timeout(DEADLINE, events.next()).await;
    match event.expect("in time") {
        Some(Event::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_listener_serves_the_versions_it_says() {
    let ground = Ground::new(Config::default());
    ground.open("all", |_| {}).await;
    ground
        .open("five", |policy| policy.versions = vec![ProtocolVersion::V5])
        .await;
    let three = |policy: &mut ListenerPolicy| {
        policy.versions = vec![ProtocolVersion::V31, ProtocolVersion::V311];
    };
    ground.open("three", three).await;
    for (listener, version, served) in [
        ("all", Version::V31, true),
        ("all", Version::V5, true),
        ("five", Version::V5, true),
        ("five", Version::V311, false),
        ("three", Version::V31, true),
        ("three", Version::V311, true),
        ("three", Version::V5, false),
    ] {
        let refusal = ground.refusal(listener, named("c").version(version)).await;
        let expected = (!served).then_some(ReasonCode::UnsupportedProtocolVersion);
        assert_eq!(refusal, expected, "{listener} {version:?}");
    }
}

#[tokio::test]
async fn a_listener_admits_the_users_it_says() {
    let user = |name: &str| User {
        name: name.into(),
        password_hash: hash_password(b"secret").expect("a hash"),
        ..User::default()
    };
    let ground = Ground::new(Config {
        users: vec![user("ann"), user("bob")],
        ..Config::default()
    });
    ground.open("all", |_| {}).await;
    ground
        .open("open", |policy| policy.allow_anonymous = Some(true))
        .await;
    ground
        .open("anns", |policy| policy.users = vec!["ann".into()])
        .await;
    let denied = Some(ReasonCode::NotAuthorized);
    for (listener, name, expected) in [
        ("all", Some("ann"), None),
        ("all", Some("bob"), None),
        ("all", None, denied),
        ("open", None, None),
        ("open", Some("bob"), None),
        ("anns", Some("ann"), None),
        ("anns", Some("bob"), denied),
        ("anns", None, denied),
    ] {
        let options = match name {
            Some(name) => named("c").username(name).password("secret"),
            None => named("c"),
        };
        let refusal = ground.refusal(listener, options).await;
        assert_eq!(refusal, expected, "{listener} {name:?}");
    }
    let wrong = named("c").username("bob").password("wrong");
    let refusal = ground.refusal("anns", wrong).await;
    assert_eq!(
        refusal,
        Some(ReasonCode::BadUserNameOrPassword),
        "nobody learns who is admitted"
    );
}

#[tokio::test]
async fn a_listener_offers_what_it_says_and_the_broker_the_rest() {
    let ground = Ground::new(Config::default());
    ground.open("plain", |_| {}).await;
    let own = |policy: &mut ListenerPolicy| {
        policy.mqtt.maximum_qos = Some(1);
        policy.mqtt.receive_maximum = Some(7);
        policy.mqtt.maximum_packet_size = Some(1_000);
        policy.mqtt.retain_available = Some(false);
        policy.mqtt.keep_alive_max_secs = Some(9);
    };
    ground.open("own", own).await;
    let offers = async |listener| {
        let (client, _) = ground.client(listener, named(listener)).await;
        let server = client.server();
        (
            server.qos_max(),
            server.inflight_max(),
            server.packet_bytes_max(),
            server.retain_available(),
            server.keep_alive_secs(),
        )
    };
    assert_eq!(offers("own").await, (QoS::AtLeastOnce, 7, 1_000, false, 9));
    let plain = offers("plain").await;
    assert_eq!((plain.0, plain.1, plain.3), (QoS::ExactlyOnce, 1_000, true));
}

#[tokio::test]
async fn a_listener_that_changes_holds_newcomers_to_it() {
    let ground = Ground::new(Config::default());
    ground.open("door", |_| {}).await;
    let old = named("old").version(Version::V311);
    let (client, _) = ground.client("door", old).await;
    let policy = ListenerPolicy {
        versions: vec![ProtocolVersion::V5],
        ..ListenerPolicy::default()
    };
    let address = "tcp://127.0.0.1:0".parse().expect("an address");
    let options = ListenerOptions::default();
    let change = |id| {
        let policy = policy.clone();
        ground
            .broker
            .change_listener(id, &address, &options, policy)
    };
    assert!(matches!(change("door"), Some(Ok(()))));
    assert!(change("other").is_none(), "there is none");
    let refusal = ground
        .refusal("door", named("new").version(Version::V311))
        .await;
    assert_eq!(refusal, Some(ReasonCode::UnsupportedProtocolVersion));
    assert_eq!(
        publish(&client, "a", "x").await,
        ReasonCode::Success,
        "it goes on"
    );
    assert_eq!(ground.broker.listeners().len(), 1);
}

#[tokio::test]
async fn topics_of_a_site_are_its_own_in_both_directions() {
    let ground = Ground::with_site().await;
    let (inside, mut inside_events) = ground.client("site", named("c")).await;
    let (outside, mut outside_events) = ground.client("plain", named("c")).await;
    assert_eq!(subscribe(&inside, "#").await, Ok(()));
    assert_eq!(subscribe(&outside, "#").await, Ok(()));
    // From inside, also with an alias.
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    assert!(ground.broker.attach_to("site", theirs, "test"));
    let mut raw = RawConnection::over(ours).version(Version::V5);
    let connect = Connect {
        version: Version::V5,
        bridge: false,
        clean_start: true,
        keep_alive_secs: 0,
        props: Props::EMPTY,
        client_id: "raw",
        will: None,
        username: None,
        password: None,
    };
    raw.send(&Packet::Connect(connect)).await.expect("sent");
    raw.receive().await.expect("CONNACK");
    let alias = PropsBuf::new().with(Property::TopicAlias(1));
    for (topic, payload) in [("a/b", b"1"), ("", b"2")] {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            id: None,
            props: alias.as_props(),
            payload,
        };
        raw.send(&Packet::Publish(publish)).await.expect("sent");
    }
    for payload in ["1", "2"] {
        let got = next(&mut inside_events).await;
        assert_eq!((&*got.topic, &*got.payload), ("a/b", payload.as_bytes()));
        let got = next(&mut outside_events).await;
        assert_eq!(
            (&*got.topic, &*got.payload),
            ("site/a/b", payload.as_bytes())
        );
    }
    // From outside, to the site and elsewhere, small and large.
    publish(&outside, "a/b", "not theirs").await;
    let large = "x".repeat(5_000);
    let request = PublishRequest::new("site/c", large.clone()).qos(QoS::AtLeastOnce);
    outside.publish(request).await.expect("accepted");
    let got = next(&mut inside_events).await;
    assert_eq!((&*got.topic, got.payload.len()), ("c", large.len()));
    // No longer subscribed to.
    let codes = inside.unsubscribe(["#"]).await.expect("answered");
    assert_eq!(codes, [ReasonCode::Success]);
    assert_eq!(
        publish(&inside, "a", "x").await,
        ReasonCode::Success,
        "outside hears it"
    );
    assert_eq!(subscribe(&inside, "end").await, Ok(()));
    publish(&inside, "end", "x").await;
    assert_eq!(next(&mut inside_events).await.topic, "end");
}

#[tokio::test]
async fn outgoing_aliases_stand_for_the_names_the_client_knows() {
    let config = Config {
        mqtt: martlet_broker::config::MqttConfig {
            topic_alias_outgoing_maximum: 8,
            ..Default::default()
        },
        ..Config::default()
    };
    let ground = Ground::new(config);
    ground
        .open("site", |policy| policy.mount_point = "site/".into())
        .await;
    let options = named("c").topic_alias_maximum(8);
    let (client, mut events) = ground.client("site", options).await;
    assert_eq!(subscribe(&client, "+/#").await, Ok(()));
    for _ in 0..3 {
        publish(&client, "a/b", "x").await;
        assert_eq!(next(&mut events).await.topic, "a/b");
    }
}

#[tokio::test]
async fn wills_retained_messages_and_shares_stay_within_the_site() {
    let ground = Ground::with_site().await;
    let (outside, mut heard) = ground.client("plain", named("o")).await;
    assert_eq!(subscribe(&outside, "#").await, Ok(()));

    let will = WillMessage::new("gone", "w").retain(true);
    let (dying, _) = ground.client("site", named("dying").will(will)).await;
    dying.abort().await;
    let got = next(&mut heard).await;
    assert_eq!((&*got.topic, &*got.payload), ("site/gone", b"w".as_slice()));

    let (inside, mut events) = ground.client("site", named("i")).await;
    assert_eq!(subscribe(&inside, "gone").await, Ok(()));
    let got = next(&mut events).await;
    assert!(got.retain && got.topic == "gone", "{got:?}");

    assert_eq!(subscribe(&inside, "$share/g/s/+").await, Ok(()));
    publish(&outside, "s/1", "not theirs").await;
    publish(&outside, "site/s/2", "theirs").await;
    assert_eq!(next(&mut events).await.topic, "s/2");
    let codes = inside
        .unsubscribe(["$share/g/s/+", "s/+"])
        .await
        .expect("answered");
    assert_eq!(
        codes,
        [ReasonCode::Success, ReasonCode::NoSubscriptionExisted]
    );
}

#[tokio::test]
async fn response_topics_are_answered_across_the_border_where_they_can_be() {
    let ground = Ground::with_site().await;
    let (inside, mut inside_events) = ground.client("site", named("i")).await;
    let (outside, mut outside_events) = ground.client("plain", named("o")).await;
    assert_eq!(subscribe(&inside, "ask").await, Ok(()));
    assert_eq!(subscribe(&outside, "site/ask").await, Ok(()));
    let ask = async |client: &Client, topic: &str, response: &str| {
        let props = PropsBuf::new()
            .with(Property::ResponseTopic(response))
            .with(Property::ContentType("text"));
        let request = PublishRequest::new(topic, "?").props(props);
        client.publish(request).await.expect("sent");
    };
    let response = |message: &ReceivedMessage| {
        let props = message.props.as_props();
        assert_eq!(props.content_type(), Some("text"), "all else stays");
        props.response_topic().map(str::to_owned)
    };
    ask(&inside, "ask", "answer").await;
    assert_eq!(
        response(&next(&mut inside_events).await).as_deref(),
        Some("answer")
    );
    assert_eq!(
        response(&next(&mut outside_events).await).as_deref(),
        Some("site/answer")
    );
    ask(&outside, "site/ask", "site/answer").await;
    assert_eq!(
        response(&next(&mut inside_events).await).as_deref(),
        Some("answer")
    );
    next(&mut outside_events).await;
    // It has no name inside.
    ask(&outside, "site/ask", "elsewhere").await;
    assert_eq!(response(&next(&mut inside_events).await), None);
}

#[tokio::test]
async fn topics_of_the_broker_are_not_mounted_and_other_dollar_topics_do_not_exist() {
    let config = Config {
        sys: martlet_broker::config::SysConfig {
            interval: Duration::from_secs(1),
            ..martlet_broker::config::SysConfig::default()
        },
        ..Config::default()
    };
    let ground = Ground::new(config);
    ground.open("plain", |_| {}).await;
    ground
        .open("site", |policy| policy.mount_point = "site/".into())
        .await;
    let (inside, mut events) = ground.client("site", named("i")).await;
    assert_eq!(subscribe(&inside, "$SYS/broker/version").await, Ok(()));
    assert_eq!(next(&mut events).await.topic, "$SYS/broker/version");
    let denied = Err(ReasonCode::NotAuthorized);
    assert_eq!(subscribe(&inside, "$other/#").await, denied);
    assert_eq!(subscribe(&inside, "$share/g/$other").await, denied);
    assert_eq!(
        publish(&inside, "$other", "x").await,
        ReasonCode::NotAuthorized
    );
    assert_eq!(
        publish(&inside, "$SYS/x", "x").await,
        ReasonCode::NotAuthorized
    );
    let (outside, _) = ground.client("plain", named("o")).await;
    let reason = publish(&outside, "site/$SYS/x", "x").await;
    assert_eq!(reason, ReasonCode::NotAuthorized, "nobody plays the broker");
}

#[tokio::test]
async fn client_ids_and_sessions_of_a_site_are_its_own() {
    let ground = Ground::with_site().await;
    ground
        .open("deep", |policy| policy.mount_point = "site/deep/".into())
        .await;
    let lasting = |id: &str| {
        let props = PropsBuf::new().with(Property::SessionExpiry(1_000));
        named(id).clean_start(false).props(props)
    };
    let (inside, _) = ground.client("site", lasting("c")).await;
    let (outside, mut heard) = ground.client("plain", lasting("c")).await;
    assert!(!outside.server().session_present(), "another client");
    assert_eq!(subscribe(&inside, "a").await, Ok(()));
    assert_eq!(subscribe(&outside, "a").await, Ok(()));
    inside.disconnect(ReasonCode::Success).await.expect("sent");
    // It was not taken over, and waits for its own messages only.
    publish(&outside, "a", "outside").await;
    assert_eq!(next(&mut heard).await.payload, "outside");
    publish(&outside, "site/a", "inside").await;
    let (inside, mut events) = ground.client("site", lasting("c")).await;
    assert!(inside.server().session_present());
    let got = next(&mut events).await;
    assert_eq!((&*got.topic, &*got.payload), ("a", b"inside".as_slice()));
    // Nobody elsewhere can go by the name that the broker has for it.
    for (listener, id, refused) in [
        ("plain", "site/c", true),
        ("plain", "sites/c", false),
        ("site", "deep/c", true),
        ("site", "c2", false),
        ("deep", "c", false),
    ] {
        let refusal = ground.refusal(listener, named(id)).await;
        let expected = refused.then_some(ReasonCode::ClientIdentifierNotValid);
        assert_eq!(refusal, expected, "{listener} {id}");
    }
    let (assigned, _) = ground.client("site", named("")).await;
    assert!(assigned.server().client_id().starts_with("auto-"));
}
