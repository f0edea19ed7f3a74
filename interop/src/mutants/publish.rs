//! Violations around PUBLISH: its fields, its properties, its order, and what should have been refused.

use super::{Mutant, both, down, publish_down, publish_up, strip, up};
use crate::proxy::{Frame, Link};
use crate::wire::property::id;
use crate::wire::{Property, Publish, Value, frame as packet, kind, prop};

/// Key of a note: a filter of this client has a `+` in it.
const PLUS: u32 = 1;

/// Passes a PUBLISH up unless it is of a kind that should have been refused.
fn swallow(frame: &Frame, link: &mut Link, wrong: impl FnOnce(&Publish) -> bool) {
    if !frame
        .publish(link.version)
        .is_some_and(|publish| wrong(&publish))
    {
        link.up(frame);
    }
}

fn replace(properties: &mut [Property], id: u8, value: &Value) {
    for property in properties.iter_mut().filter(|property| property.id == id) {
        property.value = value.clone();
    }
}

pub(super) const FAMILY: &[Mutant] = &[
    down("publish-dup-at-qos-0", |frame, link| {
        publish_down(&frame, link, |publish| publish.dup |= publish.qos == 0);
    }),
    down("publish-topic-changed", |frame, link| {
        publish_down(&frame, link, |publish| publish.topic.push(b'x'));
    }),
    down("publish-bom-dropped", |frame, link| {
        publish_down(&frame, link, |publish| {
            publish.topic = publish.topic_text().replace('\u{FEFF}', "").into_bytes();
        });
    }),
    down("publish-no-property-length", |frame, link| {
        match frame.publish(link.version) {
            Some(publish)
                if link.version.is_v5() && publish.qos == 0 && publish.properties.is_empty() =>
            {
                let mut body = crate::wire::field(&publish.topic);
                body.extend(publish.payload);
                link.raw_down(&packet(frame.first, &body));
            }
            _ => link.down(&frame),
        }
    }),
    down("publish-payload-format-dropped", |frame, link| {
        publish_down(&frame, link, |publish| {
            strip(&mut publish.properties, id::PAYLOAD_FORMAT);
        });
    }),
    down("publish-response-topic-changed", |frame, link| {
        let value = Value::Text("answer/to/me".into());
        publish_down(&frame, link, |publish| {
            replace(&mut publish.properties, id::RESPONSE_TOPIC, &value);
        });
    }),
    down("publish-correlation-data-cut", |frame, link| {
        let value = Value::Binary(vec![0, 1, 2, 0xFF]);
        publish_down(&frame, link, |publish| {
            replace(&mut publish.properties, id::CORRELATION_DATA, &value);
        });
    }),
    down("publish-content-type-dropped", |frame, link| {
        publish_down(&frame, link, |publish| {
            strip(&mut publish.properties, id::CONTENT_TYPE);
        });
    }),
    down("publish-user-property-dropped", |frame, link| {
        publish_down(&frame, link, |publish| {
            let last = publish
                .properties
                .iter()
                .rposition(|property| property.id == id::USER_PROPERTY);
            last.map(|index| publish.properties.remove(index));
        });
    }),
    down("publish-user-properties-sorted", |frame, link| {
        publish_down(&frame, link, |publish| {
            publish.properties.sort_by_key(Property::bytes);
        });
    }),
    up("publish-expiry-ignored", |frame, link| {
        publish_up(&frame, link, |publish| {
            strip(&mut publish.properties, id::MESSAGE_EXPIRY);
        });
    }),
    down("publish-expiry-not-counted-down", |frame, link| {
        publish_down(&frame, link, |publish| {
            replace(
                &mut publish.properties,
                id::MESSAGE_EXPIRY,
                &Value::U32(100),
            );
        });
    }),
    down("publish-order-swapped", |frame, link| {
        if frame.kind() != kind::PUBLISH {
            link.down(&frame);
        } else if let Some(earlier) = link.kept.pop() {
            link.down(&frame);
            link.down(&earlier);
        } else if link.count(PLUS) == 0 {
            link.kept.push(frame);
        } else {
            link.down(&frame);
        }
    }),
    both(
        "publish-not-to-plus-filters",
        |frame, link| {
            if frame.kind() == kind::SUBSCRIBE && frame.body.contains(&b'+') {
                link.note(PLUS, 1);
            }
            link.up(&frame);
        },
        |frame, link| {
            if frame.kind() != kind::PUBLISH || link.noted(PLUS) == 0 {
                link.down(&frame);
            }
        },
    ),
    down("publish-twice", |frame, link| {
        link.down(&frame);
        if frame.kind() == kind::PUBLISH {
            link.down(&frame);
        }
    }),
    up("publish-wildcard-tolerated", |frame, link| {
        swallow(&frame, link, |publish| {
            publish.topic.iter().any(|byte| b"+#".contains(byte))
        });
    }),
    up("publish-qos-3-tolerated", |mut frame, link| {
        if frame.first & 0x36 == 0x36 {
            frame.first &= !0x04;
        }
        link.up(&frame);
    }),
    up("publish-empty-topic-tolerated", |frame, link| {
        swallow(&frame, link, |publish| {
            publish.topic.is_empty() && publish.properties.is_empty()
        });
    }),
    up("publish-ill-formed-topic-tolerated", |frame, link| {
        swallow(&frame, link, |publish| {
            std::str::from_utf8(&publish.topic).is_err()
        });
    }),
    up("publish-null-in-topic-tolerated", |frame, link| {
        swallow(&frame, link, |publish| publish.topic.contains(&0));
    }),
    up("publish-response-wildcard-tolerated", |frame, link| {
        swallow(&frame, link, |publish| {
            publish.properties.iter().any(|property| {
                matches!(&property.value, Value::Text(topic) if property.id == id::RESPONSE_TOPIC && topic.contains(['+', '#']))
            })
        });
    }),
    up("publish-subscription-id-tolerated", |frame, link| {
        publish_up(&frame, link, |publish| {
            strip(&mut publish.properties, id::SUBSCRIPTION_ID);
        });
    }),
    up("alias-survives-the-connection", |frame, link| {
        publish_up(&frame, link, |publish| {
            if publish.topic.is_empty() {
                publish.topic = b"remembered".to_vec();
            }
        });
    }),
    up("alias-above-5-refused", |frame, link| {
        publish_up(&frame, link, |publish| {
            for property in &mut publish.properties {
                if property.id == id::TOPIC_ALIAS && property.value != Value::U16(0) {
                    let Value::U16(alias) = property.value else {
                        continue;
                    };
                    property.value = Value::U16(if alias > 5 { u16::MAX } else { alias });
                }
            }
        });
    }),
    up("alias-0-tolerated", |frame, link| {
        publish_up(&frame, link, |publish| {
            publish
                .properties
                .retain(|property| *property != prop::topic_alias(0));
        });
    }),
    down("alias-above-the-maximum", |frame, link| {
        publish_down(&frame, link, |publish| {
            publish.properties.push(prop::topic_alias(9));
        });
    }),
    down("alias-unasked", |frame, link| {
        publish_down(&frame, link, |publish| {
            publish.properties.push(prop::topic_alias(1));
        });
    }),
    down("alias-0", |frame, link| {
        publish_down(&frame, link, |publish| {
            publish.properties.push(prop::topic_alias(0));
        });
    }),
];
