//! How packets and small values look in JSON (feature `serde`).

use martlet_codec::{
    Packet, PacketId, QoS, ReasonCode, RetainHandling, Split, SubscribeOptions, Version, split,
};
use serde_json::{from_value, json, to_value};

fn check(bytes: &[u8], version: Version, expected: &serde_json::Value) {
    let Ok(Split::Frame(frame)) = split(bytes, u32::MAX) else {
        panic!("not whole")
    };
    let packet = Packet::decode(frame, version).unwrap();
    assert_eq!(to_value(packet).unwrap(), *expected);
}

#[test]
fn packets_serialise_field_by_field() {
    check(
        b"\x32\x0A\x00\x01a\x00\x07\x03\x23\x00\x05x",
        Version::V5,
        &json!({"Publish": {
            "dup": false, "qos": 1, "retain": false, "topic": "a", "id": 7,
            "props": [{"TopicAlias": 5}], "payload": [120],
        }}),
    );
    check(
        b"\x82\x08\x00\x07\x00\x00\x02a/\x2D",
        Version::V5,
        &json!({"Subscribe": {"id": 7, "props": [], "filters": [["a/", {
            "qos": 1, "no_local": true, "retain_as_published": true, "retain_handling": 2,
        }]]}}),
    );
    check(
        b"\x90\x04\x00\x07\x00\x87",
        Version::V5,
        &json!({"SubAck": {"id": 7, "props": [], "codes": [0x87]}}),
    );
    check(b"\xC0\x00", Version::V311, &json!("PingReq"));
}

#[test]
fn passwords_do_not_serialise() {
    check(
        b"\x10\x13\x00\x04MQTT\x04\xC2\x00\x3C\x00\x01c\x00\x01u\x00\x01p",
        Version::V311,
        &json!({"Connect": {
            "version": 4, "bridge": false, "clean_start": true, "keep_alive_secs": 60, "props": [],
            "client_id": "c", "will": null, "username": "u", "password": true,
        }}),
    );
}

#[test]
fn small_values_go_both_ways_and_are_checked() {
    assert_eq!(from_value::<QoS>(json!(2)).unwrap(), QoS::ExactlyOnce);
    assert!(from_value::<QoS>(json!(3)).is_err());
    assert_eq!(from_value::<Version>(json!(5)).unwrap(), Version::V5);
    assert!(from_value::<Version>(json!(6)).is_err());
    assert_eq!(
        from_value::<ReasonCode>(json!(0x87)).unwrap(),
        ReasonCode::NotAuthorized
    );
    assert!(from_value::<ReasonCode>(json!(3)).is_err());
    assert_eq!(from_value::<PacketId>(json!(9)).unwrap().get(), 9);
    assert!(from_value::<PacketId>(json!(0)).is_err());
    assert!(from_value::<RetainHandling>(json!(3)).is_err());
    let options = SubscribeOptions::from_u8(0x2D).unwrap();
    let json = to_value(options).unwrap();
    assert_eq!(from_value::<SubscribeOptions>(json).unwrap(), options);
}
