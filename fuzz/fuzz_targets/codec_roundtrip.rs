//! Fuzz target: whatever decodes is encoded, and decodes to the same value again; encoding never
//! makes a packet longer than it came, and is stable from then on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use martlet_codec::{Packet, PacketBuf, Split, Version, split};

/// Limit for one packet: far above what the fuzzer tries.
const MAX_PACKET: u32 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((&selector, stream)) = data.split_first() else {
        return;
    };
    let version = Version::ALL[usize::from(selector) % Version::ALL.len()];
    let Ok(Split::Frame(frame)) = split(stream, MAX_PACKET) else {
        return;
    };
    let Ok(packet) = Packet::decode(frame, version) else {
        return;
    };
    let version = match packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };

    let mut written = Vec::new();
    packet
        .encode(version, &mut written)
        .expect("a decoded packet can be encoded");
    #[cfg(planted_bug)]
    plant(&packet, &mut written);
    assert_eq!(packet.encoded_len(version), Ok(written.len()));
    assert!(written.len() <= frame.len);

    let Ok(Split::Frame(again)) = split(&written, MAX_PACKET) else {
        panic!("an encoded packet is whole");
    };
    assert_eq!(again.len, written.len());
    assert_eq!(Packet::decode(again, version), Ok(packet));

    let owned = PacketBuf::from_packet(&packet, version).expect("a decoded packet is valid");
    assert_eq!(owned.packet(), packet);
    assert_eq!(&owned.as_bytes()[..], &written[..]);
});

/// An encoder that forgets the DUP flag of QoS 2.
#[cfg(planted_bug)]
fn plant(packet: &Packet<'_>, written: &mut [u8]) {
    if let Packet::Publish(publish) = packet
        && publish.dup
        && publish.qos == martlet_codec::QoS::ExactlyOnce
    {
        written[0] &= !0b1000;
    }
}
