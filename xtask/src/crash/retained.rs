//! A newcomer that looks at the retained messages after each restart.
//!
//! While publishers are at work, each must be the last one that was acknowledged before, or a newer one; in a drain,
//! exactly the last one, and none where the last one cleared it.

use super::link::{Identity, Link, Over};
use super::scene::{Kind, Scene};
use super::streams::{self, Stream, Use};
use martlet_codec::{Packet, PacketId, QoS, Version};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);
/// How long to wait for what must not be there.
const AFTERWARDS: Duration = Duration::from_millis(150);

/// Looks; `least` are the acknowledged numbers of all streams when the cycle began. Returns how many were right.
pub(super) fn check(scene: &Scene, all: &[Stream], least: &[u64]) -> u64 {
    // Whatever ended it was reported, or is the end of the cycle.
    look(scene, all, least).unwrap_or(0)
}

fn look(scene: &Scene, all: &[Stream], least: &[u64]) -> Result<u64, Over> {
    let version = if scene.cycle.is_multiple_of(2) {
        Version::V311
    } else {
        Version::V5
    };
    let mut identity = Identity::new("newcomer".to_string(), version);
    identity.clean = true;
    let (mut link, _) = Link::open(scene, &mut identity, None)?;
    let filters = ["crash/retained/#", "crash/cleared/#"];
    for (filter, id) in filters.iter().zip(1..) {
        if let Some(id) = PacketId::new(id) {
            link.out.subscribe(id, filter, QoS::AtMostOnce);
        }
    }
    let must = |at: usize| match all[at].what {
        Use::Data => false,
        Use::Retained => least[at] > 0,
        Use::Cleared => scene.drain && !least[at].is_multiple_of(2),
    };
    let mut found: Vec<Option<u64>> = vec![None; all.len()];
    let mut granted = 0;
    let begin = Instant::now();
    let mut complete: Option<Instant> = None;
    while complete.is_none_or(|since| since.elapsed() < AFTERWARDS) && begin.elapsed() < LIMIT {
        link.read(usize::MAX, &mut |packet, _| match packet {
            Packet::SubAck(_) => {
                granted += 1;
                Ok(())
            }
            Packet::Publish(publish) if publish.retain => {
                match streams::read(all, publish.topic, publish.payload) {
                    Some((at, number)) => found[at] = Some(number),
                    None => {
                        let what = format!("retained, and nobody sent it: {}", publish.topic);
                        scene.ledger.find(Kind::Corrupt, what);
                    }
                }
                Ok(())
            }
            Packet::Publish(_) => Ok(()),
            other => Err(format!("a newcomer was sent {other:?}")),
        })?;
        let all_there = (0..all.len()).all(|at| !must(at) || found[at].is_some());
        if complete.is_none() && granted == filters.len() && all_there {
            complete = Some(Instant::now());
        }
    }
    let mut right = 0;
    for (at, found) in found.iter().enumerate() {
        let (stream, least) = (&all[at], least[at]);
        let wrong = match (must(at), found) {
            (true, None) => Some("gone".to_string()),
            (true, Some(number)) if *number < least || (scene.drain && *number != least) => {
                Some(number.to_string())
            }
            (false, Some(number)) if scene.drain => Some(format!("{number}, and was cleared")),
            _ => None,
        };
        match wrong {
            Some(wrong) => {
                let (name, qos) = (&stream.name, stream.qos);
                let what = format!("{name} {qos:?}: acknowledged was {least}, there is: {wrong}");
                scene.ledger.find(Kind::Retained, what);
            }
            None => right += u64::from(stream.what != Use::Data),
        }
    }
    Ok(right)
}
