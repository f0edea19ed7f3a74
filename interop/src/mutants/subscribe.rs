//! Violations around SUBSCRIBE, UNSUBSCRIBE, matching and shared subscriptions.

use super::{
    Mutant, all_but, both, down, publish_down, publish_up, strip, suback_down, subscribe_up, up,
};
use crate::proxy::{Frame, Link};
use crate::wire::property::id;
use crate::wire::server::SubAck;
use crate::wire::{NO_LOCAL, Packet, Subscribe, kind};

/// Key of a note: a SUBSCRIBE or UNSUBSCRIBE has passed; this client shares.
const PASSED: u32 = 1;
const SHARES: u32 = 2;
/// Key of a note, plus a packet identifier: the QoS that was asked for.
const ASKED: u32 = 0x1_0000;

/// Changes the options of every filter on the way up.
fn options(frame: &Frame, link: &mut Link, change: impl Fn(&[u8], u8) -> u8) {
    subscribe_up(frame, link, |subscribe| {
        for (filter, options) in &mut subscribe.filters {
            *options = change(filter, *options);
        }
    });
}

/// Changes every filter on the way up.
fn filters(frame: &Frame, link: &mut Link, change: impl Fn(&str) -> String) {
    subscribe_up(frame, link, |subscribe| {
        for (filter, _) in &mut subscribe.filters {
            *filter = change(&String::from_utf8_lossy(filter)).into_bytes();
        }
    });
}

/// An answer to a request that the broker never sees.
fn granted(subscribe: &Subscribe) -> Packet {
    let codes = subscribe
        .filters
        .iter()
        .map(|(_, options)| options & 3)
        .collect();
    Packet::SubAck(SubAck {
        id: subscribe.id,
        properties: Vec::new(),
        codes,
    })
}

pub(super) const FAMILY: &[Mutant] = &[
    down("suback-wrong-id", |frame, link| {
        suback_down(&frame, link, kind::SUBACK, |ack| {
            ack.id = ack.id.wrapping_add(1).max(1);
        });
    }),
    down("suback-missing", |frame, link| {
        all_but(&frame, link, kind::SUBACK, Link::down);
    }),
    down("suback-reversed", |frame, link| {
        suback_down(&frame, link, kind::SUBACK, |ack| ack.codes.reverse());
    }),
    down("suback-one-code", |frame, link| {
        suback_down(&frame, link, kind::SUBACK, |ack| ack.codes.truncate(1));
    }),
    down("suback-foreign-code", |frame, link| {
        suback_down(&frame, link, kind::SUBACK, |ack| ack.codes.fill(0x03));
    }),
    down("suback-grants-0", |frame, link| {
        suback_down(&frame, link, kind::SUBACK, |ack| ack.codes.fill(0));
    }),
    both(
        "delivery-above-the-granted-qos",
        |frame, link| {
            if let Some(subscribe) = frame.subscribe(link.version) {
                link.note(
                    ASKED + u32::from(subscribe.id),
                    subscribe
                        .filters
                        .first()
                        .map_or(0, |(_, qos)| u32::from(qos & 3)),
                );
            }
            options(&frame, link, |_, options| options & !3 | 2);
        },
        |frame, link| {
            let asked = link.noted(ASKED + u32::from(frame.id())) as u8;
            suback_down(&frame, link, kind::SUBACK, |ack| ack.codes.fill(asked));
        },
    ),
    up("subscribe-no-local-ignored", |frame, link| {
        options(&frame, link, |_, options| options & !NO_LOCAL);
    }),
    up("subscribe-shared-no-local-tolerated", |frame, link| {
        options(&frame, link, |filter, options| {
            if filter.starts_with(b"$share/") {
                options & !NO_LOCAL
            } else {
                options
            }
        });
    }),
    up("subscribe-reserved-options-tolerated", |frame, link| {
        options(&frame, link, |_, options| options & 0x3F);
    }),
    up("subscribe-flags-tolerated", |mut frame, link| {
        if frame.kind() == kind::SUBSCRIBE {
            frame.first = 0x82;
        }
        link.up(&frame);
    }),
    up("subscribe-empty-tolerated", |frame, link| {
        if !frame
            .subscribe(link.version)
            .is_some_and(|subscribe| subscribe.filters.is_empty())
        {
            link.up(&frame);
        }
    }),
    up("subscribe-again-ignored", |frame, link| {
        match frame.subscribe(link.version) {
            Some(subscribe) if link.count(PASSED) > 0 => link.send_down(&granted(&subscribe)),
            _ => link.up(&frame),
        }
    }),
    down("subscription-id-dropped", |frame, link| {
        publish_down(&frame, link, |publish| {
            strip(&mut publish.properties, id::SUBSCRIPTION_ID);
        });
    }),
    down("subscription-id-one-of-many", |frame, link| {
        publish_down(&frame, link, |publish| {
            let first = publish
                .properties
                .iter()
                .position(|property| property.id == id::SUBSCRIPTION_ID);
            let mut index = 0;
            publish.properties.retain(|property| {
                index += 1;
                property.id != id::SUBSCRIPTION_ID || Some(index - 1) == first
            });
        });
    }),
    down("subscription-id-foreign-copy", |frame, link| {
        publish_down(&frame, link, |publish| {
            let own = publish
                .properties
                .iter_mut()
                .find(|property| property.id == id::SUBSCRIPTION_ID);
            if let Some(property) = own {
                property.value = crate::wire::Value::Var(1);
            }
        });
    }),
    down("overlap-at-the-lowest-qos", |frame, link| {
        publish_down(&frame, link, |publish| {
            (publish.qos, publish.id) = (0, None);
        });
    }),
    up("filter-hash-anywhere-tolerated", |frame, link| {
        filters(&frame, link, |filter| match filter.find('#') {
            Some(at) => filter[..at].trim_end_matches('/').to_owned() + "/#",
            None => filter.to_owned(),
        });
    }),
    up("filter-plus-within-level-tolerated", |frame, link| {
        filters(&frame, link, |filter| {
            let level = |level: &str| {
                if level.contains('+') {
                    "+".to_owned()
                } else {
                    level.to_owned()
                }
            };
            filter.split('/').map(level).collect::<Vec<_>>().join("/")
        });
    }),
    both(
        "filter-wildcard-sees-dollar",
        |frame, link| {
            publish_up(&frame, link, |publish| {
                if publish.topic.first() == Some(&b'$') {
                    publish.topic.splice(..1, *b"DOLLAR/");
                }
            });
        },
        |frame, link| {
            publish_down(&frame, link, |publish| {
                if publish.topic.starts_with(b"DOLLAR/") {
                    publish.topic.splice(..7, *b"$");
                }
            });
        },
    ),
    up("filter-case-folded", |frame, link| {
        if frame.kind() == kind::SUBSCRIBE {
            filters(&frame, link, str::to_lowercase);
        } else {
            publish_up(&frame, link, |publish| publish.topic.make_ascii_lowercase());
        }
    }),
    down("unsuback-wrong-id", |frame, link| {
        suback_down(&frame, link, kind::UNSUBACK, |ack| {
            ack.id = ack.id.wrapping_add(1).max(1);
        });
    }),
    down("unsuback-missing", |frame, link| {
        all_but(&frame, link, kind::UNSUBACK, Link::down);
    }),
    down("unsuback-reversed", |frame, link| {
        suback_down(&frame, link, kind::UNSUBACK, |ack| ack.codes.reverse());
    }),
    down("unsuback-foreign-code", |frame, link| {
        suback_down(&frame, link, kind::UNSUBACK, |ack| ack.codes.fill(0x01));
    }),
    up("unsubscribe-ignored", |frame, link| {
        if frame.kind() == kind::UNSUBSCRIBE {
            let ack = SubAck {
                id: frame.id(),
                properties: Vec::new(),
                codes: if link.version.is_v5() {
                    vec![0]
                } else {
                    Vec::new()
                },
            };
            link.send_down(&Packet::UnsubAck(ack));
        } else {
            link.up(&frame);
        }
    }),
    down("unsubscribe-breaks-off-deliveries", |frame, link| {
        if frame.kind() == kind::UNSUBACK {
            link.note(PASSED, 1);
        }
        if frame.kind() != kind::PUBREL || link.noted(PASSED) == 0 {
            link.down(&frame);
        }
    }),
    up("unsubscribe-flags-tolerated", |mut frame, link| {
        if frame.kind() == kind::UNSUBSCRIBE {
            frame.first = 0xA2;
        }
        link.up(&frame);
    }),
    up("share-empty-name-tolerated", |frame, link| {
        filters(&frame, link, |filter| {
            filter.replace("$share//", "$share/nameless/")
        });
    }),
    up("share-wildcard-name-tolerated", |frame, link| {
        filters(&frame, link, |filter| {
            filter
                .replace("$share/+/", "$share/plus/")
                .replace("$share/g+/", "$share/g/")
        });
    }),
    both(
        "share-at-qos-0",
        |frame, link| {
            if frame
                .subscribe(link.version)
                .is_some_and(|subscribe| subscribe.filters[0].0.starts_with(b"$share/"))
            {
                link.note(SHARES, 1);
            }
            link.up(&frame);
        },
        |frame, link| {
            let shares = link.noted(SHARES) == 1;
            publish_down(&frame, link, |publish| {
                if shares {
                    (publish.qos, publish.id) = (0, None);
                }
            });
        },
    ),
];
