//! Proof that the generator notices: a relay that does one wrong thing each, and a run that must find it out.

use std::time::Duration;

use crate::failure::Failure;
use crate::options::{Options, Workload};
use crate::relay::{Fault, Relay};
use crate::run::run;
use crate::verdict::{Breach, Verdict};
use martlet_codec::QoS;

/// Messages of each publisher: the deed is done early, and much comes after it.
const MESSAGES: u32 = 2_000;
const PAIRS: u32 = 2;

/// What was tried, and what came of it.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What the relay does.
    pub deed: &'static str,
    /// QoS of the run.
    pub qos: QoS,
    /// What the run said.
    pub said: String,
    /// Whether that is right.
    pub passed: bool,
}

/// Runs against an honest relay and against one for each fault, at every QoS. Takes a few seconds.
///
/// # Errors
/// The relay cannot be started here.
pub fn selftest() -> Result<Vec<Trial>, Failure> {
    let mut trials = Vec::new();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        trials.push(trial(None, qos)?);
        for fault in Fault::ALL {
            trials.push(trial(Some(fault), qos)?);
        }
    }
    Ok(trials)
}

fn trial(fault: Option<Fault>, qos: QoS) -> Result<Trial, Failure> {
    let relay = Relay::start(fault)?;
    let options = Options {
        qos,
        publishers: Some(PAIRS),
        subscribers: Some(PAIRS),
        window: Some(200),
        count: Some(MESSAGES),
        stall: Duration::from_secs(1),
        timeout: Duration::from_secs(30),
        ..Options::new(relay.address(), Workload::Pairs)
    };
    let result = run(&options, &mut |_| {});
    let passed = match (&result, fault) {
        (Ok(_), None) => true,
        (Err(Failure::Broken(verdict)), Some(fault)) => noticed(fault, verdict),
        _ => false,
    };
    Ok(Trial {
        deed: fault.map_or("is honest", Fault::as_str),
        qos,
        said: match result {
            Ok(_) => "every promise kept".to_owned(),
            Err(failure) => failure.to_string(),
        },
        passed,
    })
}

/// Whether a verdict names the deed, and nothing that did not happen.
fn noticed(fault: Fault, verdict: &Verdict) -> bool {
    let only = |wanted: &[Breach]| {
        Breach::ALL
            .iter()
            .all(|breach| (verdict.count(*breach) > 0) == wanted.contains(breach))
    };
    match fault {
        Fault::Drop => only(&[Breach::Lost]),
        Fault::Double => only(&[Breach::Doubled]),
        Fault::Swap => only(&[Breach::Reordered]),
        // What cannot be read did not arrive.
        Fault::Flip => only(&[Breach::Corrupted, Breach::Lost]),
        Fault::Misdirect => only(&[Breach::Misdirected, Breach::Lost]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_deed_is_noticed_and_an_honest_relay_is_believed() {
        for trial in selftest().expect("a relay can be started") {
            assert!(trial.passed, "{trial:?}");
        }
    }
}
