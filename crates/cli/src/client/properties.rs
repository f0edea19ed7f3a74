//! `-D PACKET NAME VALUE`: properties as words.

use martlet_codec::{Property, PropsBuf, Version};

/// The property blocks of the packets a client sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    pub(crate) connect: PropsBuf,
    pub(crate) publish: PropsBuf,
    pub(crate) subscribe: PropsBuf,
    pub(crate) unsubscribe: PropsBuf,
    pub(crate) disconnect: PropsBuf,
    pub(crate) will: PropsBuf,
}

/// Packets and the properties each may carry [MQTT 5, section 2.2.2.2].
const ALLOWED: [(&str, &[&str]); 6] = [
    (
        "connect",
        &[
            "maximum-packet-size",
            "receive-maximum",
            "request-problem-information",
            "request-response-information",
            "session-expiry-interval",
            "topic-alias-maximum",
            "user-property",
        ],
    ),
    (
        "publish",
        &[
            "content-type",
            "correlation-data",
            "message-expiry-interval",
            "payload-format-indicator",
            "response-topic",
            "user-property",
        ],
    ),
    ("subscribe", &["subscription-identifier", "user-property"]),
    ("unsubscribe", &["user-property"]),
    ("disconnect", &["session-expiry-interval", "user-property"]),
    (
        "will",
        &[
            "content-type",
            "correlation-data",
            "message-expiry-interval",
            "payload-format-indicator",
            "response-topic",
            "user-property",
            "will-delay-interval",
        ],
    ),
];

impl Properties {
    /// Reads the words of all `-D` flags in their order.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn parse(words: &[String], version: Version) -> Result<Self, String> {
        let mut properties = Self::default();
        if !words.is_empty() && !version.is_v5() {
            return Err("-D needs MQTT 5 (-V 5)".to_owned());
        }
        let mut given: Vec<(&str, &str)> = Vec::new();
        let mut words = words.iter().map(String::as_str);
        while let Some(packet) = words.next() {
            let mut next = |what: &str| {
                words
                    .next()
                    .ok_or_else(|| format!("-D {packet}: the {what} is missing"))
            };
            let name = next("name")?;
            let value = next("value")?;
            let second = if name == "user-property" {
                Some(next("second value")?)
            } else {
                None
            };
            let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == packet) else {
                let packets: Vec<&str> = ALLOWED.iter().map(|(packet, _)| *packet).collect();
                return Err(format!(
                    "-D {packet}: not a packet with properties; those are {}",
                    packets.join(", ")
                ));
            };
            if !allowed.contains(&name) {
                return Err(format!(
                    "-D {packet} {name}: {packet} can have {}",
                    allowed.join(", ")
                ));
            }
            if name != "user-property" && given.contains(&(packet, name)) {
                return Err(format!("-D {packet} {name}: given twice"));
            }
            given.push((packet, name));
            let property = property(name, value, second)
                .map_err(|error| format!("-D {packet} {name}: {error}"))?;
            match packet {
                "connect" => &mut properties.connect,
                "publish" => &mut properties.publish,
                "subscribe" => &mut properties.subscribe,
                "unsubscribe" => &mut properties.unsubscribe,
                "disconnect" => &mut properties.disconnect,
                _ => &mut properties.will,
            }
            .push(property);
        }
        Ok(properties)
    }
}

fn property<'a>(
    name: &str,
    value: &'a str,
    second: Option<&'a str>,
) -> Result<Property<'a>, String> {
    /// Longest string of MQTT.
    const STRING_BYTES_MAX: usize = 65_535;
    let number = |min: u32, max: u32| match value.parse::<u32>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("write a number from {min} to {max}")),
    };
    let yes_or_no = || number(0, 1).map(|number| number == 1);
    if value.len() > STRING_BYTES_MAX
        || second.is_some_and(|second| second.len() > STRING_BYTES_MAX)
    {
        return Err(format!("longer than {STRING_BYTES_MAX} bytes"));
    }
    Ok(match name {
        "content-type" => Property::ContentType(value),
        "correlation-data" => Property::CorrelationData(value.as_bytes()),
        "maximum-packet-size" => Property::MaximumPacketSize(number(1, u32::MAX)?),
        "message-expiry-interval" => Property::MessageExpiry(number(0, u32::MAX)?),
        "payload-format-indicator" => Property::PayloadFormatIndicator(u8::from(yes_or_no()?)),
        "receive-maximum" => Property::ReceiveMaximum(number(1, 65_535)? as u16),
        "request-problem-information" => Property::RequestProblemInformation(yes_or_no()?),
        "request-response-information" => Property::RequestResponseInformation(yes_or_no()?),
        "response-topic" => Property::ResponseTopic(value),
        "session-expiry-interval" => Property::SessionExpiry(number(0, u32::MAX)?),
        "subscription-identifier" => Property::SubscriptionId(number(1, 268_435_455)?),
        "topic-alias-maximum" => Property::TopicAliasMaximum(number(0, 65_535)? as u16),
        "will-delay-interval" => Property::WillDelay(number(0, u32::MAX)?),
        _ => Property::UserProperty(value, second.unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Properties, String> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        Properties::parse(&words, Version::V5)
    }

    #[test]
    fn properties_are_read() {
        let properties = parse(
            "publish user-property a b publish content-type text publish user-property a c will will-delay-interval 5",
        )
        .expect("right");
        let publish = properties.publish.as_props();
        assert_eq!(
            publish.user_properties().collect::<Vec<_>>(),
            [("a", "b"), ("a", "c")]
        );
        assert_eq!(publish.content_type(), Some("text"));
        assert_eq!(properties.will.as_props().will_delay_secs(), Some(5));
    }

    #[test]
    fn mistakes_are_told() {
        let check = |words: &str, part: &str| {
            let message = parse(words).expect_err(words);
            assert!(message.contains(part), "{part} is not in {message}");
        };
        check("publish content-type", "the value is missing");
        check("publish user-property a", "the second value is missing");
        check("puback user-property a b", "not a packet with properties");
        check(
            "subscribe content-type text",
            "subscribe can have subscription-identifier",
        );
        check("connect receive-maximum 0", "from 1 to 65535");
        check(
            "publish content-type a publish content-type b",
            "given twice",
        );
        assert!(Properties::parse(&["publish".to_owned()], Version::V311).is_err());
    }
}
