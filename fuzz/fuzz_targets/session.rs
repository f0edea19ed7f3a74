//! Fuzz target: a broker's session and a model client, every event and every fault chosen by the
//! input. Checked after each event: packet ids unique in flight, window and Maximum Packet Size kept, queue
//! bytes the sum of their parts, packets well formed; at the end, when all has healed: QoS 2 once,
//! QoS 1 at least once, each in order, and an empty store.
#![no_main]

use libfuzzer_sys::fuzz_target;
use martlet_codec::Version;
use martlet_session::model::{Bytes, Faults, Options, Pair, Seed};

/// Events per run; each may be followed by several packets.
const STEPS_MAX: usize = 2_000;

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let options = Options {
        version: [Version::V31, Version::V311, Version::V5, Version::V5][usize::from(first & 3)],
        durable: first & 4 != 0,
        faults: if first & 8 != 0 {
            Faults::ALL
        } else {
            Faults::OFTEN
        },
    };
    let mut random = Bytes(rest);
    let mut pair = Pair::new(options, &mut random);
    for _ in 0..STEPS_MAX {
        if random.is_empty() {
            break;
        }
        if let Err(violation) = pair.step(&mut random) {
            panic!("{violation}");
        }
    }
    // Zeroes for ever would keep some choices from being made; how it ends is not the input's business.
    if let Err(violation) = pair.finish(&mut Seed(u64::from(first))) {
        panic!("at the end: {violation}");
    }
});
