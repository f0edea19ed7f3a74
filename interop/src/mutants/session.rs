//! Violations around session state, takeover and the will.

use super::{Mutant, connect_up, down, holding, publish_down, strip, up};
use crate::proxy::{Frame, Link};
use crate::wire::property::id;
use crate::wire::{Packet, Value, kind};

/// Key of a note: the server said DISCONNECT 0x8E.
const TAKEN_OVER: u32 = 1;

/// Whether this is a delivery to one of the topics the tests use for wills.
fn is_will(frame: &Frame, link: &Link) -> bool {
    frame
        .publish(link.version)
        .is_some_and(|publish| publish.topic.starts_with(b"w/"))
}

pub(super) const FAMILY: &[Mutant] = &[
    up("session-clean-start-ignored", |frame, link| {
        connect_up(&frame, link, |connect| connect.clean = false);
    }),
    up("session-never-resumed", |frame, link| {
        connect_up(&frame, link, |connect| connect.clean = true);
    }),
    up("session-expiry-ignored", |frame, link| {
        connect_up(&frame, link, |connect| {
            strip(&mut connect.properties, id::SESSION_EXPIRY);
        });
    }),
    up("session-never-expires", |frame, link| {
        connect_up(&frame, link, |connect| {
            for property in &mut connect.properties {
                if property.id == id::SESSION_EXPIRY {
                    property.value = Value::U32(1_000);
                }
            }
        });
    }),
    up("session-id-case-folded", |frame, link| {
        connect_up(&frame, link, |connect| {
            connect.client_id.make_ascii_lowercase();
        });
    }),
    Mutant {
        down: |frame, link| match frame.packet(link.version) {
            Some(Packet::Disconnect(disconnect)) if disconnect.code == 0x8E => {
                link.note(TAKEN_OVER, 1);
            }
            _ => link.down(&frame),
        },
        ..holding("takeover-keeps-the-old", |link| link.noted(TAKEN_OVER) == 1)
    },
    down("takeover-wrong-code", |frame, link| {
        match frame.packet(link.version) {
            Some(Packet::Disconnect(mut disconnect)) => {
                disconnect.code = 0x98;
                link.send_down(&Packet::Disconnect(disconnect));
            }
            _ => link.down(&frame),
        }
    }),
    down("will-not-published", |frame, link| {
        if !is_will(&frame, link) {
            link.down(&frame);
        }
    }),
    down("will-published-twice", |frame, link| {
        if is_will(&frame, link) {
            link.down(&frame);
        }
        link.down(&frame);
    }),
    up("will-despite-disconnect", |frame, link| {
        if frame.kind() == kind::DISCONNECT {
            link.cut();
        } else {
            link.up(&frame);
        }
    }),
    up("will-retain-ignored", |frame, link| {
        connect_up(&frame, link, |connect| {
            if let Some(will) = &mut connect.will {
                will.retain = false;
            }
        });
    }),
    up("will-retain-forced", |frame, link| {
        connect_up(&frame, link, |connect| {
            if let Some(will) = &mut connect.will {
                will.retain = true;
            }
        });
    }),
    down("will-user-properties-reversed", |frame, link| {
        publish_down(&frame, link, |publish| publish.properties.reverse());
    }),
    up("will-delay-ignored", |frame, link| {
        strip_will_delay(&frame, link);
    }),
    up("will-despite-return", |frame, link| {
        strip_will_delay(&frame, link);
    }),
];

fn strip_will_delay(frame: &Frame, link: &mut Link) {
    connect_up(frame, link, |connect| {
        if let Some(will) = &mut connect.will {
            strip(&mut will.properties, id::WILL_DELAY);
        }
    });
}
