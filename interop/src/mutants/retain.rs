//! Violations around retained messages.

use super::{Mutant, down, publish_down, publish_up, subscribe_up, up};
use crate::proxy::{Frame, Link};
use crate::wire::{RETAIN_AS_PUBLISHED, RETAIN_IF_NEW, RETAIN_NEVER};

/// Key of a note: retained messages that went down.
const REPLAYED: u32 = 1;

pub(super) const FAMILY: &[Mutant] = &[
    down("retain-cleared-on-replay", |frame, link| {
        publish_down(&frame, link, |publish| publish.retain = false);
    }),
    down("retain-kept-on-live", |frame, link| {
        publish_down(&frame, link, |publish| publish.retain = true);
    }),
    up("retain-not-stored", |frame, link| {
        publish_up(&frame, link, |publish| {
            publish.retain &= publish.payload.is_empty();
        });
    }),
    up("retain-not-cleared", |frame, link| {
        publish_up(&frame, link, |publish| {
            publish.retain &= !publish.payload.is_empty();
        });
    }),
    up("retain-everything", |frame, link| {
        publish_up(&frame, link, |publish| publish.retain = true);
    }),
    up("retain-as-published-ignored", |frame, link| {
        subscribe_up(&frame, link, |subscribe| {
            subscribe
                .filters
                .iter_mut()
                .for_each(|(_, options)| *options &= !RETAIN_AS_PUBLISHED);
        });
    }),
    up("retain-handling-2-ignored", |frame, link| {
        subscribe_up(&frame, link, |subscribe| {
            subscribe
                .filters
                .iter_mut()
                .for_each(|(_, options)| *options &= !RETAIN_NEVER);
        });
    }),
    up("retain-handling-1-ignored", |frame, link| {
        subscribe_up(&frame, link, |subscribe| {
            subscribe
                .filters
                .iter_mut()
                .for_each(|(_, options)| *options &= !RETAIN_IF_NEW);
        });
    }),
    up("retain-handling-0-only-if-new", |frame, link| {
        only_if_new(&frame, link);
    }),
    down("retain-one-per-subscription", |frame, link| {
        let retained = frame
            .publish(link.version)
            .is_some_and(|publish| publish.retain);
        if !retained || link.count(REPLAYED) == 0 {
            link.down(&frame);
        }
    }),
];

fn only_if_new(frame: &Frame, link: &mut Link) {
    let v5 = link.version.is_v5();
    subscribe_up(frame, link, |subscribe| {
        for (_, options) in &mut subscribe.filters {
            *options |= if v5 && *options & 0x30 == 0 {
                RETAIN_IF_NEW
            } else {
                0
            };
        }
    });
}
