//! Violations around the acknowledged exchanges, redelivery and flow control.

use super::{Mutant, ack_down, all_but, both, connect_up, down, publish_down, strip, up};
use crate::proxy::Link;
use crate::wire::property::id;
use crate::wire::{ClientPacket, Packet, kind, puback, pubcomp, publish, pubrec, pubrel};

/// Key of a note, plus a packet identifier: the server has seen it, the client has sent PUBREC for it.
const SEEN: u32 = 0x1_0000;
const RECEIVED: u32 = 0x2_0000;
/// Key of a note: deliveries at QoS 1 and 2 that the client has not acknowledged.
const OPEN: u32 = 1;
/// Added to identifiers of repeated messages, so that the broker takes them for new ones.
const OFFSET: u16 = 20_000;

fn shifted(id: u16) -> u16 {
    id.wrapping_add(1).max(1)
}

pub(super) const FAMILY: &[Mutant] = &[
    down("puback-wrong-id", |frame, link| {
        ack_down(&frame, link, kind::PUBACK, |ack| ack.id = shifted(ack.id));
    }),
    down("pubrec-wrong-id", |frame, link| {
        ack_down(&frame, link, kind::PUBREC, |ack| ack.id = shifted(ack.id));
    }),
    down("pubcomp-wrong-id", |frame, link| {
        ack_down(&frame, link, kind::PUBCOMP, |ack| ack.id = shifted(ack.id));
    }),
    down("puback-missing", |frame, link| {
        all_but(&frame, link, kind::PUBACK, Link::down);
    }),
    down("pubrec-instead-of-puback", |frame, link| {
        ack_down(&frame, link, kind::PUBACK, |ack| ack.kind = kind::PUBREC);
    }),
    down("puback-foreign-code", |frame, link| {
        ack_down(&frame, link, kind::PUBACK, |ack| ack.code = 0x8E);
    }),
    down("pubrec-foreign-code", |frame, link| {
        ack_down(&frame, link, kind::PUBREC, |ack| ack.code = 0x01);
    }),
    down("pubrel-foreign-code", |frame, link| {
        ack_down(&frame, link, kind::PUBREL, |ack| ack.code = 0x10);
    }),
    down("pubcomp-foreign-code", |frame, link| {
        ack_down(&frame, link, kind::PUBCOMP, |ack| ack.code = 0x80);
    }),
    down("pubrel-flags-zero", |mut frame, link| {
        if frame.kind() == kind::PUBREL {
            frame.first = 0x60;
        }
        link.down(&frame);
    }),
    down("pubrel-missing", |frame, link| {
        all_but(&frame, link, kind::PUBREL, Link::down);
    }),
    down("publish-id-0", |frame, link| {
        publish_down(&frame, link, |publish| publish.id = publish.id.and(Some(0)));
    }),
    down("publish-id-in-use", |frame, link| {
        publish_down(&frame, link, |publish| publish.id = publish.id.and(Some(1)));
    }),
    down("publish-dup-on-first-sending", |frame, link| {
        publish_down(&frame, link, |publish| publish.dup = publish.qos > 0);
    }),
    down("publish-dup-passed-on", |frame, link| {
        publish_down(&frame, link, |publish| {
            publish.dup |= publish.text() == "dup";
        });
    }),
    up("puback-id-remembered", |frame, link| {
        match frame.publish(link.version) {
            Some(message) if message.qos == 1 => {
                let id = message.id.unwrap_or(0);
                if link.count(SEEN + u32::from(id)) == 0 {
                    link.up(&frame);
                } else {
                    link.send_down(&Packet::Ack(puback(id)));
                }
            }
            _ => link.up(&frame),
        }
    }),
    up("pubcomp-id-remembered", |frame, link| {
        match frame.publish(link.version) {
            Some(message)
                if message.qos == 2
                    && link.count(SEEN + u32::from(message.id.unwrap_or(0))) > 0 =>
            {
                link.send_down(&Packet::Ack(pubrec(message.id.unwrap_or(0))));
            }
            _ => link.up(&frame),
        }
    }),
    both(
        "qos-2-repeat-delivered",
        |frame, link| match frame.publish(link.version) {
            Some(mut message) if message.qos == 2 => {
                let id = message.id.unwrap_or(0);
                let repeats = link.count(SEEN + u32::from(id)) as u16;
                message.id = Some(id + repeats * OFFSET);
                link.send_up(&message);
            }
            _ if frame.kind() == kind::PUBREL => {
                link.up(&frame);
                for repeat in 1..link.noted(SEEN + u32::from(frame.id())) as u16 {
                    link.send_up(&pubrel(frame.id() + repeat * OFFSET));
                }
            }
            _ => link.up(&frame),
        },
        |mut frame, link| {
            if matches!(frame.kind(), kind::PUBREC | kind::PUBCOMP) && frame.id() > OFFSET {
                if frame.kind() == kind::PUBCOMP {
                    return;
                }
                let id = frame.id() % OFFSET;
                frame.body[..2].copy_from_slice(&id.to_be_bytes());
            }
            link.down(&frame);
        },
    ),
    both(
        "publish-again-after-pubrec",
        |frame, link| {
            if frame.kind() == kind::PUBREC {
                link.note(RECEIVED + u32::from(frame.id()), 1);
            }
            link.up(&frame);
        },
        |frame, link| {
            if frame.kind() == kind::PUBREL && link.noted(RECEIVED + u32::from(frame.id())) == 0 {
                let again = publish("again", "two").qos2(frame.id()).dup();
                link.raw_down(&again.bytes(link.version));
            }
            link.down(&frame);
        },
    ),
    down("resend-without-dup", |frame, link| {
        publish_down(&frame, link, |publish| publish.dup = false);
    }),
    down("resend-missing", |frame, link| {
        if !frame
            .publish(link.version)
            .is_some_and(|publish| publish.dup)
        {
            link.down(&frame);
        }
    }),
    down("resend-new-id", |frame, link| {
        publish_down(&frame, link, |publish| {
            if publish.dup {
                publish.id = publish.id.map(|id| id + 1_000);
            }
        });
    }),
    down("resend-of-qos-2-missing", |frame, link| {
        if !frame
            .publish(link.version)
            .is_some_and(|publish| publish.dup && publish.qos == 2)
        {
            link.down(&frame);
        }
    }),
    down("resend-of-pubrel-missing", |frame, link| {
        // A PUBREL that no PUBREC of this connection asked for is one sent again.
        if frame.kind() != kind::PUBREL || link.noted(OPEN) > 0 {
            link.down(&frame);
        }
        if frame.kind() == kind::PUBLISH {
            link.note(OPEN, 1);
        }
    }),
    both(
        "resend-on-a-living-connection",
        |frame, link| {
            if frame.kind() == kind::PINGREQ {
                for again in std::mem::take(&mut link.kept) {
                    link.down(&again);
                }
            }
            link.up(&frame);
        },
        |mut frame, link| {
            link.down(&frame);
            if frame
                .publish(link.version)
                .is_some_and(|publish| publish.qos == 1)
            {
                frame.first |= 0x08;
                link.kept.push(frame);
            }
        },
    ),
    up("refusing-ack-ignored", |frame, link| {
        let refusing = frame.body.get(2).is_some_and(|code| *code >= 0x80);
        if !(refusing && matches!(frame.kind(), kind::PUBACK | kind::PUBREC)) {
            link.up(&frame);
        }
    }),
    up("share-refused-goes-on", |frame, link| {
        let refusing = frame.body.get(2).is_some_and(|code| *code >= 0x80);
        if !(refusing && matches!(frame.kind(), kind::PUBACK | kind::PUBREC)) {
            link.up(&frame);
        }
    }),
    up("flow-receive-maximum-ignored", |frame, link| {
        connect_up(&frame, link, |connect| {
            strip(&mut connect.properties, id::RECEIVE_MAXIMUM);
        });
    }),
    up("flow-pubrec-frees", |frame, link| {
        // The exchange is finished behind the client's back as soon as PUBREC is there.
        link.up(&frame);
        if frame.kind() == kind::PUBREC {
            link.send_up(&pubcomp(frame.id()));
        }
    }),
    both(
        "flow-limit-stops-qos-0",
        |frame, link| {
            if matches!(frame.kind(), kind::PUBACK | kind::PUBCOMP) {
                link.note(OPEN, link.noted(OPEN).saturating_sub(1));
            }
            link.up(&frame);
        },
        |frame, link| match frame.publish(link.version) {
            Some(publish) if publish.qos == 0 && link.noted(OPEN) > 0 => {}
            Some(publish) if publish.qos > 0 => {
                link.count(OPEN);
                link.down(&frame);
            }
            _ => link.down(&frame),
        },
    ),
    up("flow-packet-size-ignored", |frame, link| {
        connect_up(&frame, link, |connect| {
            strip(&mut connect.properties, id::MAXIMUM_PACKET_SIZE);
        });
    }),
];
