//! Many days of the pair, good and bad. A failure names its seed: put it into [`replay`].

use martlet_codec::Version;

use super::{Faults, Options, Pair, Seed, Violation};

/// One day; the number of deliveries.
fn day(options: Options, seed: u64, steps: usize) -> Result<usize, Violation> {
    let mut random = Seed(seed);
    let mut pair = Pair::new(options, &mut random);
    for _ in 0..steps {
        pair.step(&mut random)?;
    }
    pair.finish(&mut random)?;
    Ok(pair.delivered())
}

fn days(faults: Faults, count: u64) {
    let mut delivered = 0;
    for seed in 0..count {
        for version in [Version::V311, Version::V5] {
            for durable in [false, true] {
                let options = Options {
                    version,
                    durable,
                    faults,
                };
                match day(options, seed, 400) {
                    Ok(messages) => delivered += messages,
                    Err(violation) => panic!("seed {seed} with {options:?}: {violation}"),
                }
            }
        }
    }
    assert!(
        delivered as u64 > count * 50,
        "only {delivered} deliveries: the model does nothing"
    );
}

#[test]
fn perfect_days() {
    days(Faults::NONE, 20);
}

#[test]
fn bad_days() {
    days(Faults::ALL, 50);
}

#[test]
fn days_with_one_fault_each() {
    let one: [fn(&mut Faults); 10] = [
        |faults| faults.cut = 50,
        |faults| faults.second_connection = 50,
        |faults| faults.restart = 50,
        |faults| faults.slow_socket = 800,
        |faults| faults.slow_store = 900,
        |faults| faults.reorder = 800,
        |faults| faults.refuse = 300,
        |faults| faults.repeat_pubrec = 500,
        |faults| faults.stray_ack = 300,
        |faults| (faults.cut, faults.change_limits) = (50, 1_000),
    ];
    for set in one {
        let mut faults = Faults::NONE;
        set(&mut faults);
        days(faults, 6);
    }
}

/// For seeds that failed.
#[test]
fn replay() {
    for (seed, version, durable) in [(5, Version::V311, true), (5, Version::V5, true)] {
        let options = Options {
            version,
            durable,
            faults: Faults::ALL,
        };
        assert_eq!(day(options, seed, 2_000).map(|_| ()), Ok(()));
    }
}
