//! The mutants: each breaks exactly one statement, to prove that the test which names the statement can fail.
//!
//! `mutants.csv` joins them with statements and tests. A mutant is a pair of plain functions over packets; where the violation
//! is the server's own decision (keeping what it should drop, ignoring what it should obey) the request is changed on its way
//! up, so that an honest broker behaves as a broken one would.

mod connect;
mod errors;
mod publish;
mod qos;
mod retain;
mod session;
mod subscribe;

use crate::proxy::{Frame, Link};
use crate::wire::server::{ConnAck, SubAck};
use crate::wire::{Ack, Connect, Packet, Property, Publish, Subscribe};

/// Environment variable that names the mutant.
pub const VARIABLE: &str = "MARTLET_MUTANT";

/// One way to break one rule.
#[derive(Clone, Copy)]
pub struct Mutant {
    /// Name in `mutants.csv`.
    pub name: &'static str,
    /// Handles a packet from the client.
    pub up: fn(Frame, &mut Link),
    /// Handles a packet from the server.
    pub down: fn(Frame, &mut Link),
    /// Whether the client's connection stays open when the server ended its own.
    pub hold: fn(&mut Link) -> bool,
    /// Changes bytes from a client whose connection is not plain MQTT.
    pub raw_up: fn(Vec<u8>) -> Vec<u8>,
    /// Changes bytes to a client whose connection is not plain MQTT.
    pub raw_down: fn(Vec<u8>) -> Vec<u8>,
}

impl std::fmt::Debug for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn honest(name: &'static str) -> Mutant {
    Mutant {
        name,
        up: |frame, link| link.up(&frame),
        down: |frame, link| link.down(&frame),
        hold: |_| false,
        raw_up: |bytes| bytes,
        raw_down: |bytes| bytes,
    }
}

/// Changes what clients say.
const fn up(name: &'static str, up: fn(Frame, &mut Link)) -> Mutant {
    Mutant { up, ..honest(name) }
}

/// Changes what the server says.
const fn down(name: &'static str, down: fn(Frame, &mut Link)) -> Mutant {
    Mutant {
        down,
        ..honest(name)
    }
}

/// Changes both.
const fn both(name: &'static str, up: fn(Frame, &mut Link), down: fn(Frame, &mut Link)) -> Mutant {
    Mutant {
        up,
        down,
        ..honest(name)
    }
}

/// Keeps the client's connection open under a condition.
const fn holding(name: &'static str, hold: fn(&mut Link) -> bool) -> Mutant {
    Mutant {
        hold,
        ..honest(name)
    }
}

/// Changes a CONNECT on its way up.
fn connect_up(frame: &Frame, link: &mut Link, change: impl FnOnce(&mut Connect)) {
    match frame.connect() {
        Some(mut connect) => {
            change(&mut connect);
            link.raw_up(&connect.bytes());
        }
        None => link.up(frame),
    }
}

/// Changes a SUBSCRIBE on its way up.
fn subscribe_up(frame: &Frame, link: &mut Link, change: impl FnOnce(&mut Subscribe)) {
    match frame.subscribe(link.version) {
        Some(mut subscribe) => {
            change(&mut subscribe);
            link.send_up(&subscribe);
        }
        None => link.up(frame),
    }
}

/// Changes a PUBLISH on its way up.
fn publish_up(frame: &Frame, link: &mut Link, change: impl FnOnce(&mut Publish)) {
    match frame.publish(link.version) {
        Some(mut publish) => {
            change(&mut publish);
            link.send_up(&publish);
        }
        None => link.up(frame),
    }
}

/// Changes a PUBLISH on its way down.
fn publish_down(frame: &Frame, link: &mut Link, change: impl FnOnce(&mut Publish)) {
    match frame.publish(link.version) {
        Some(mut publish) => {
            change(&mut publish);
            link.send_down(&Packet::Publish(publish));
        }
        None => link.down(frame),
    }
}

/// Changes a CONNACK on its way down.
fn connack_down(frame: &Frame, link: &mut Link, change: impl FnOnce(&mut ConnAck)) {
    match frame.packet(link.version) {
        Some(Packet::ConnAck(mut connack)) => {
            change(&mut connack);
            link.send_down(&Packet::ConnAck(connack));
        }
        _ => link.down(frame),
    }
}

/// Changes an acknowledgement of this type on its way down.
fn ack_down(frame: &Frame, link: &mut Link, kind: u8, change: impl FnOnce(&mut Ack)) {
    match frame.packet(link.version) {
        Some(Packet::Ack(mut ack)) if ack.kind == kind => {
            change(&mut ack);
            link.send_down(&Packet::Ack(ack));
        }
        _ => link.down(frame),
    }
}

/// Changes a SUBACK or UNSUBACK, whichever `kind` says, on its way down.
fn suback_down(frame: &Frame, link: &mut Link, kind: u8, change: impl FnOnce(&mut SubAck)) {
    match frame.packet(link.version) {
        Some(mut packet) if frame.kind() == kind => {
            if let Packet::SubAck(ack) | Packet::UnsubAck(ack) = &mut packet {
                change(ack);
            }
            link.send_down(&packet);
        }
        _ => link.down(frame),
    }
}

/// Takes properties with this identifier out of a list.
fn strip(properties: &mut Vec<Property>, id: u8) {
    properties.retain(|property| property.id != id);
}

/// Passes everything but packets of this type.
fn all_but(frame: &Frame, link: &mut Link, kind: u8, send: fn(&mut Link, &Frame)) {
    if frame.kind() != kind {
        send(link, frame);
    }
}

/// All of them, and `none`, which changes nothing.
pub fn all() -> impl Iterator<Item = &'static Mutant> {
    static NONE: [Mutant; 1] = [honest("none")];
    let families: [&'static [Mutant]; 8] = [
        &NONE,
        connect::FAMILY,
        session::FAMILY,
        publish::FAMILY,
        qos::FAMILY,
        retain::FAMILY,
        subscribe::FAMILY,
        errors::FAMILY,
    ];
    families.into_iter().flatten()
}

/// The mutant the environment asks for.
pub fn chosen() -> Option<&'static Mutant> {
    let name = std::env::var(VARIABLE)
        .ok()
        .filter(|name| !name.is_empty())?;
    Some(
        all()
            .find(|mutant| mutant.name == name)
            .unwrap_or_else(|| panic!("{VARIABLE}: no mutant is called {name:?}")),
    )
}
