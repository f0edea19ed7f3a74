//! Violations around CONNECT and CONNACK.

use super::{Mutant, all_but, both, connack_down, connect_up, down, holding, strip, up};
use crate::proxy::{Frame, Link};
use crate::wire::property::id;
use crate::wire::{Packet, Property, Value, kind, prop};

/// Key of a note: the CONNECT had Clean Start; the length of its client id; the CONNACK refused.
const CLEAN: u32 = 1;
const ID_LENGTH: u32 = 2;
const REFUSED: u32 = 3;

fn note_connect(frame: &Frame, link: &mut Link) {
    if let Some(connect) = frame.connect() {
        link.note(CLEAN, u32::from(connect.clean));
        link.note(ID_LENGTH, connect.client_id.len() as u32);
    }
    link.up(frame);
}

fn note_refusal(frame: &Frame, link: &mut Link) {
    if let Some(Packet::ConnAck(connack)) = frame.packet(link.version) {
        link.note(REFUSED, u32::from(connack.code != 0));
    }
}

pub(super) const FAMILY: &[Mutant] = &[
    down("connack-reserved-flag", |mut frame, link| {
        if frame.kind() == kind::CONNACK {
            frame.body[0] |= 0x02;
        }
        link.down(&frame);
    }),
    both(
        "connack-session-after-clean",
        |frame, link| note_connect(&frame, link),
        |frame, link| {
            let clean = link.noted(CLEAN) == 1;
            connack_down(&frame, link, |connack| {
                connack.session_present |= clean && connack.code == 0;
            });
        },
    ),
    down("connack-session-concealed", |frame, link| {
        connack_down(&frame, link, |connack| connack.session_present = false);
    }),
    down("connack-session-invented", |frame, link| {
        connack_down(&frame, link, |connack| {
            connack.session_present = connack.code == 0;
        });
    }),
    down("connack-session-in-refusal", |frame, link| {
        connack_down(&frame, link, |connack| {
            connack.session_present |= connack.code != 0;
        });
    }),
    down("connack-twice", |frame, link| {
        link.down(&frame);
        if frame.kind() == kind::CONNACK {
            link.down(&frame);
        }
    }),
    down("connack-not-first", |frame, link| {
        if frame.kind() == kind::CONNACK {
            link.send_down(&Packet::PingResp);
        }
        link.down(&frame);
    }),
    down("connack-foreign-code", |frame, link| {
        let v5 = link.version.is_v5();
        connack_down(&frame, link, |connack| {
            if v5 && connack.code == 0 {
                connack.code = 0x8E;
            }
        });
    }),
    down("connack-missing", |frame, link| {
        all_but(&frame, link, kind::CONNACK, Link::down);
    }),
    Mutant {
        down: |frame, link| {
            note_refusal(&frame, link);
            link.down(&frame);
        },
        ..holding("connack-refusal-stays-open", |link| {
            link.noted(REFUSED) == 1
        })
    },
    down("connack-no-assigned-id", |frame, link| {
        connack_down(&frame, link, |connack| {
            strip(&mut connack.properties, id::ASSIGNED_CLIENT_ID);
        });
    }),
    down("connack-same-assigned-id", |frame, link| {
        connack_down(&frame, link, |connack| {
            for property in &mut connack.properties {
                if property.id == id::ASSIGNED_CLIENT_ID {
                    property.value = Value::Text("auto".into());
                }
            }
        });
    }),
    down("connack-long-reason", |frame, link| {
        connack_down(&frame, link, |connack| {
            strip(&mut connack.properties, id::REASON_STRING);
            connack
                .properties
                .push(prop::reason_string(&"why ".repeat(20)));
        });
    }),
    down("connack-long-user-property", |frame, link| {
        connack_down(&frame, link, |connack| {
            connack.properties.push(prop::user("k", &"v".repeat(80)));
        });
    }),
    down("connack-unasked-response-information", |frame, link| {
        connack_down(&frame, link, |connack| {
            connack.properties.push(Property {
                id: id::RESPONSE_INFORMATION,
                value: Value::Text("answers".into()),
            });
        });
    }),
    down("connack-unasked-auth-method", |frame, link| {
        connack_down(&frame, link, |connack| {
            connack.properties.push(prop::authentication_method("m"));
        });
    }),
    both(
        "connect-23-byte-id-refused",
        |frame, link| note_connect(&frame, link),
        |frame, link| {
            let longest = link.noted(ID_LENGTH) == 23;
            let refusal = if link.version.is_v5() { 0x85 } else { 2 };
            connack_down(&frame, link, |connack| {
                connack.code = if longest { refusal } else { connack.code };
            });
        },
    ),
    up("connect-again-ignored", |frame, link| {
        if frame.kind() != kind::CONNECT || link.count(CLEAN) == 0 {
            link.up(&frame);
        }
    }),
    holding("connect-not-first-tolerated", |link| {
        link.noted(u32::MAX) == 0
    }),
    up("connect-any-name", |frame, link| {
        connect_up(&frame, link, |connect| {
            connect.name = Some(b"MQTT".to_vec());
        });
    }),
    up("connect-any-level", |frame, link| {
        connect_up(&frame, link, |connect| {
            connect.level = Some(connect.version as u8);
        });
    }),
    up("connect-reserved-flag-tolerated", |frame, link| {
        connect_up(&frame, link, |connect| connect.flags &= !0x01);
    }),
    up("connect-will-qos-3-tolerated", |frame, link| {
        connect_up(&frame, link, |connect| {
            if let Some(will) = &mut connect.will {
                will.qos = will.qos.min(2);
            }
        });
    }),
    up("connect-will-qos-without-will-tolerated", |frame, link| {
        connect_up(&frame, link, |connect| connect.flags &= !0x18);
    }),
    up(
        "connect-will-retain-without-will-tolerated",
        |frame, link| {
            connect_up(&frame, link, |connect| connect.flags &= !0x20);
        },
    ),
    up("connect-password-alone-tolerated", |frame, link| {
        connect_up(&frame, link, |connect| {
            if connect.password.is_some() && connect.user_name.is_none() {
                connect.user_name = Some(b"nobody".to_vec());
            }
        });
    }),
    up("connect-ill-formed-id-tolerated", |frame, link| {
        connect_up(&frame, link, |connect| {
            if std::str::from_utf8(&connect.client_id).is_err() {
                connect.client_id = b"mended".to_vec();
            }
        });
    }),
    up("connect-keep-alive-ignored", |frame, link| {
        connect_up(&frame, link, |connect| connect.keep_alive = 0);
    }),
];
