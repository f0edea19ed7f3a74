//! What a client sent, read without judging it, for the proxy that changes it. `None` is a shape that cannot be taken apart.

use super::packets::{Connect, Publish, Subscribe, Will};
use super::property::read_block;
use super::{Property, Reader};
use crate::Version;

fn properties(reader: &mut Reader<'_>, version: Version) -> Option<Vec<Property>> {
    if version.is_v5() {
        read_block(reader).ok()
    } else {
        Some(Vec::new())
    }
}

/// The version a CONNECT body names; 3.1.1 for anything unknown.
pub fn version(body: &[u8]) -> Version {
    let mut reader = Reader::new(body);
    let level = reader.binary().and_then(|_| reader.byte()).unwrap_or(4);
    match level & 0x7F {
        3 => Version::V31,
        5 => Version::V5,
        _ => Version::V311,
    }
}

/// A CONNECT body.
pub fn connect(body: &[u8]) -> Option<Connect> {
    let version = version(body);
    let mut reader = Reader::new(body);
    let name = reader.binary().ok()?.to_vec();
    let level = reader.byte().ok()?;
    let flags = reader.byte().ok()?;
    let keep_alive = reader.u16().ok()?;
    let list = properties(&mut reader, version)?;
    let mut connect = Connect::new(version, reader.binary().ok()?);
    (connect.name, connect.level) = (Some(name), Some(level));
    (connect.clean, connect.keep_alive, connect.properties) = (flags & 0x02 != 0, keep_alive, list);
    // Reserved, and what belongs to a will that is not there.
    connect.flags = flags & if flags & 0x04 == 0 { 0x39 } else { 0x01 };
    if flags & 0x04 != 0 {
        let properties = properties(&mut reader, version)?;
        let mut will = Will::new(reader.binary().ok()?, reader.binary().ok()?).qos(flags >> 3 & 3);
        (will.retain, will.properties) = (flags & 0x20 != 0, properties);
        connect.will = Some(will);
    }
    if flags & 0x80 != 0 {
        connect.user_name = Some(reader.binary().ok()?.to_vec());
    }
    if flags & 0x40 != 0 {
        connect.password = Some(reader.binary().ok()?.to_vec());
    }
    reader.is_empty().then_some(connect)
}

/// A PUBLISH, from either side.
pub fn publish(first: u8, body: &[u8], version: Version) -> Option<Publish> {
    let mut reader = Reader::new(body);
    let mut publish = super::publish(reader.binary().ok()?, []);
    (publish.dup, publish.qos, publish.retain) = (first & 8 != 0, first >> 1 & 3, first & 1 != 0);
    if publish.qos > 0 {
        publish.id = Some(reader.u16().ok()?);
    }
    publish.properties = properties(&mut reader, version)?;
    publish.payload = reader.rest().to_vec();
    Some(publish)
}

/// A SUBSCRIBE body.
pub fn subscribe(body: &[u8], version: Version) -> Option<Subscribe> {
    let mut reader = Reader::new(body);
    let id = reader.u16().ok()?;
    let mut subscribe = Subscribe {
        id,
        filters: Vec::new(),
        properties: properties(&mut reader, version)?,
    };
    while !reader.is_empty() {
        let filter = reader.binary().ok()?.to_vec();
        subscribe.filters.push((filter, reader.byte().ok()?));
    }
    Some(subscribe)
}
