//! Violations around DISCONNECT, PINGREQ, AUTH, malformed packets and WebSocket.

use super::{Mutant, ack_down, all_but, down, holding, honest, up};
use crate::proxy::{Frame, Link};
use crate::wire::{Disconnect, Packet, kind, prop};

/// Key of a note: the server said DISCONNECT.
const SAID: u32 = 1;

/// Changes the server's DISCONNECT.
fn disconnect_down(frame: &Frame, link: &mut Link, change: impl FnOnce(&mut Disconnect)) {
    match frame.packet(link.version) {
        Some(Packet::Disconnect(mut disconnect)) => {
            change(&mut disconnect);
            link.send_down(&Packet::Disconnect(disconnect));
        }
        _ => link.down(frame),
    }
}

/// Replaces the first occurrence of `from`.
fn replaced(bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    match bytes
        .windows(from.len())
        .position(|window| window.eq_ignore_ascii_case(from))
    {
        Some(at) => [&bytes[..at], to, &bytes[at + from.len()..]].concat(),
        None => bytes,
    }
}

pub(super) const FAMILY: &[Mutant] = &[
    holding("malformed-held-open", |_| true),
    up("malformed-flags-ignored", |mut frame, link| {
        if !matches!(
            frame.kind(),
            kind::PUBLISH | kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE
        ) {
            frame.first &= 0xF0;
        }
        link.up(&frame);
    }),
    up("pubrel-flags-tolerated", |mut frame, link| {
        if frame.kind() == kind::PUBREL {
            frame.first = 0x62;
        }
        link.up(&frame);
    }),
    down("disconnect-before-connack", |frame, link| {
        match frame.packet(link.version) {
            Some(Packet::ConnAck(connack)) if connack.code != 0 => {
                link.send_down(&Packet::Disconnect(Disconnect {
                    code: 0x81,
                    properties: Vec::new(),
                }));
            }
            _ => link.down(&frame),
        }
    }),
    down("disconnect-with-session-expiry", |frame, link| {
        disconnect_down(&frame, link, |disconnect| {
            disconnect.properties.push(prop::session_expiry(5));
        });
    }),
    down("disconnect-foreign-code", |frame, link| {
        disconnect_down(&frame, link, |disconnect| disconnect.code = 0x04);
    }),
    down("disconnect-not-the-last-word", |frame, link| {
        link.down(&frame);
        if frame.kind() == kind::DISCONNECT {
            link.send_down(&Packet::PingResp);
        }
    }),
    Mutant {
        down: |frame, link| {
            if frame.kind() == kind::DISCONNECT {
                link.note(SAID, 1);
            }
            link.down(&frame);
        },
        ..holding("disconnect-stays-open", |link| link.noted(SAID) == 1)
    },
    up("disconnect-ignored", |frame, link| {
        all_but(&frame, link, kind::DISCONNECT, Link::up);
    }),
    down("pingresp-missing", |frame, link| {
        all_but(&frame, link, kind::PINGRESP, Link::down);
    }),
    down("pingresp-with-flags", |mut frame, link| {
        if frame.kind() == kind::PINGRESP {
            frame.first |= 0x01;
        }
        link.down(&frame);
    }),
    down("pingresp-long-length", |frame, link| {
        if frame.kind() == kind::PINGRESP {
            link.raw_down(&[0xD0, 0x80, 0x00]);
        } else {
            link.down(&frame);
        }
    }),
    up("auth-ignored", |frame, link| {
        all_but(&frame, link, kind::AUTH, Link::up);
    }),
    up("auth-method-ignored", |frame, link| {
        super::connect_up(&frame, link, |connect| {
            connect
                .properties
                .retain(|property| !matches!(property.id, 0x15 | 0x16));
        });
    }),
    down("problem-information-forced", |frame, link| {
        ack_down(&frame, link, kind::PUBACK, |ack| {
            ack.properties.push(prop::reason_string("because"));
        });
    }),
    Mutant {
        raw_down: |bytes| replaced(bytes, b"\r\nsec-websocket-protocol: mqtt\r\n", b"\r\n"),
        ..honest("websocket-no-subprotocol")
    },
    Mutant {
        raw_down: |mut bytes| {
            if bytes.first() == Some(&0x82) {
                bytes[0] = 0x81;
            }
            bytes
        },
        ..honest("websocket-text-frames")
    },
    Mutant {
        raw_up: |mut bytes| {
            if bytes.first() == Some(&0x81) {
                bytes[0] = 0x82;
            }
            bytes
        },
        ..honest("websocket-text-tolerated")
    },
    Mutant {
        // One byte frames are dropped, as a server would that wants a packet per frame.
        raw_up: |bytes| {
            if bytes.get(1) == Some(&0x81) {
                Vec::new()
            } else {
                bytes
            }
        },
        ..honest("websocket-packet-per-frame")
    },
];
