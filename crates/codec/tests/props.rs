//! Property blocks: lookups, iteration, building, and passing on without looking inside.

use martlet_codec::props::id;
use martlet_codec::{EncodeError, ErrorKind, Property, Props, PropsBuf, PropsContext, QoS};

/// One of each property, and the context that allows it.
fn samples() -> Vec<(Property<'static>, PropsContext)> {
    use Property as P;
    use PropsContext as C;
    vec![
        (P::PayloadFormatIndicator(1), C::Publish),
        (P::MessageExpiry(0x0102_0304), C::Will),
        (P::ContentType("text/plain"), C::Publish),
        (P::ResponseTopic("a/b"), C::Publish),
        (P::CorrelationData(b"\x00\xFF"), C::Publish),
        (P::SubscriptionId(268_435_455), C::Subscribe),
        (P::SessionExpiry(u32::MAX), C::Connect),
        (P::AssignedClientId("auto"), C::ConnAck),
        (P::ServerKeepAlive(60), C::ConnAck),
        (P::AuthenticationMethod("SCRAM"), C::Auth),
        (P::RequestProblemInformation(false), C::Connect),
        (P::WillDelay(5), C::Will),
        (P::RequestResponseInformation(true), C::Connect),
        (P::ResponseInformation("resp"), C::ConnAck),
        (P::ServerReference("other"), C::Disconnect),
        (P::ReasonString("because"), C::Ack),
        (P::ReceiveMaximum(20), C::Connect),
        (P::TopicAliasMaximum(10), C::ConnAck),
        (P::TopicAlias(3), C::Publish),
        (P::MaximumQos(QoS::AtLeastOnce), C::ConnAck),
        (P::RetainAvailable(true), C::ConnAck),
        (P::UserProperty("k", "v"), C::Unsubscribe),
        (P::MaximumPacketSize(1024), C::Connect),
        (P::WildcardSubscriptionAvailable(false), C::ConnAck),
        (P::SubscriptionIdsAvailable(true), C::ConnAck),
        (P::SharedSubscriptionAvailable(false), C::ConnAck),
    ]
}

#[test]
fn every_property_reads_back_as_written() {
    for (property, context) in samples() {
        let block = PropsBuf::new().with(property);
        assert_eq!(block.len(), property.encoded_len(), "{property:?}");
        let props = Props::validate(block.as_props().as_bytes(), context).unwrap();
        assert_eq!(props.iter().collect::<Vec<_>>(), [property]);
        let segments: Vec<_> = props.segments().collect();
        assert_eq!(segments, [(property.id(), props.as_bytes())]);
    }
}

#[test]
fn lookups_find_each_property_among_all_others() {
    let mut all = PropsBuf::new();
    for (property, _) in samples() {
        all.push(property);
    }
    all.push(Property::AuthenticationData(b"data"));
    all.push(Property::SubscriptionId(1))
        .push(Property::UserProperty("k", "w"));
    let props = all.as_props();
    assert_eq!(props.payload_format_indicator(), Some(1));
    assert_eq!(props.message_expiry_secs(), Some(0x0102_0304));
    assert_eq!(props.content_type(), Some("text/plain"));
    assert_eq!(props.response_topic(), Some("a/b"));
    assert_eq!(props.correlation_data(), Some(&b"\x00\xFF"[..]));
    assert_eq!(
        props.subscription_ids().collect::<Vec<_>>(),
        [268_435_455, 1]
    );
    assert_eq!(props.session_expiry_secs(), Some(u32::MAX));
    assert_eq!(props.assigned_client_id(), Some("auto"));
    assert_eq!(props.server_keep_alive_secs(), Some(60));
    assert_eq!(props.authentication_method(), Some("SCRAM"));
    assert_eq!(props.authentication_data(), Some(&b"data"[..]));
    assert_eq!(props.request_problem_information(), Some(false));
    assert_eq!(props.will_delay_secs(), Some(5));
    assert_eq!(props.request_response_information(), Some(true));
    assert_eq!(props.response_information(), Some("resp"));
    assert_eq!(props.server_reference(), Some("other"));
    assert_eq!(props.reason_string(), Some("because"));
    assert_eq!(props.receive_maximum(), Some(20));
    assert_eq!(props.topic_alias_maximum(), Some(10));
    assert_eq!(props.topic_alias(), Some(3));
    assert_eq!(props.maximum_qos(), Some(QoS::AtLeastOnce));
    assert_eq!(props.retain_available(), Some(true));
    assert_eq!(
        props.user_properties().collect::<Vec<_>>(),
        [("k", "v"), ("k", "w")]
    );
    assert_eq!(props.maximum_packet_size(), Some(1024));
    assert_eq!(props.wildcard_subscription_available(), Some(false));
    assert_eq!(props.subscription_ids_available(), Some(true));
    assert_eq!(props.shared_subscription_available(), Some(false));
}

#[test]
fn lookups_in_an_empty_block_find_nothing() {
    let props = Props::EMPTY;
    assert!(props.is_empty());
    assert_eq!(props.iter().count(), 0);
    assert_eq!(props.message_expiry_secs(), None);
    assert_eq!(props.reason_string(), None);
    assert_eq!(props.user_properties().count(), 0);
    assert_eq!(props.subscription_ids().count(), 0);
}

#[test]
fn a_server_passes_on_what_it_keeps_byte_for_byte_and_in_order() {
    let received = PropsBuf::new()
        .with(Property::UserProperty("b", "2"))
        .with(Property::TopicAlias(1))
        .with(Property::ContentType("x"))
        .with(Property::UserProperty("a", "1"));
    let mut sent = PropsBuf::new();
    sent.push(Property::SubscriptionId(7));
    sent.extend(received.as_props(), |id| id != id::TOPIC_ALIAS);
    assert_eq!(
        sent.as_props().iter().collect::<Vec<_>>(),
        [
            Property::SubscriptionId(7),
            Property::UserProperty("b", "2"),
            Property::ContentType("x"),
            Property::UserProperty("a", "1"),
        ]
    );
    sent.clear();
    assert!(sent.is_empty());
}

#[test]
fn what_the_wire_cannot_carry_is_left_out_or_refused() {
    let long = "x".repeat(65_536);
    for (property, error) in [
        (Property::ReasonString(&long), EncodeError::StringTooLong),
        (
            Property::CorrelationData(long.as_bytes()),
            EncodeError::StringTooLong,
        ),
        (
            Property::UserProperty("k", &long),
            EncodeError::StringTooLong,
        ),
        (
            Property::UserProperty(&long, "v"),
            EncodeError::StringTooLong,
        ),
        (
            Property::SubscriptionId(268_435_456),
            EncodeError::ValueOutOfRange,
        ),
    ] {
        assert_eq!(property.encoded_len(), 0);
        let mut block = PropsBuf::new();
        assert_eq!(block.try_push(property).map(drop), Err(error));
        block.push(property);
        assert!(block.is_empty());
    }
    let longest = "x".repeat(65_535);
    let block = PropsBuf::new().with(Property::ReasonString(&longest));
    assert_eq!(block.as_props().reason_string(), Some(&longest[..]));
}

#[test]
fn what_the_protocol_forbids_can_be_built_and_is_refused_by_the_receiver() {
    for (property, kind) in [
        (Property::TopicAlias(0), ErrorKind::TopicAliasZero),
        (
            Property::PayloadFormatIndicator(2),
            ErrorKind::PayloadFormatIndicatorValue(2),
        ),
        (Property::SubscriptionId(0), ErrorKind::SubscriptionIdZero),
    ] {
        let block = PropsBuf::new().with(property);
        let error =
            Props::validate(block.as_props().as_bytes(), PropsContext::Publish).unwrap_err();
        assert_eq!((error.kind, error.offset), (kind, 1));
    }
}

#[test]
fn trusted_bytes_that_are_broken_end_the_iteration() {
    let broken = Props::from_trusted(b"\x23\x00\x05\x26\x00\x01");
    assert_eq!(broken.iter().collect::<Vec<_>>(), [Property::TopicAlias(5)]);
    assert_eq!(broken.segments().count(), 1);
    assert_eq!(broken.user_properties().count(), 0);
    assert_eq!(Props::from_trusted(b"\xFF\xFF").iter().count(), 0);
}
