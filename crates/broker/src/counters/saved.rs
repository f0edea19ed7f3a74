//! The running totals as a record of the store and back, so that they can go on after a restart.
//!
//! Every total has a name that stays; a record may hold names of other versions, which are passed over. Deliberately
//! absent: gauges, the most clients at one time, load averages, and what the store counts itself, which all begin anew with
//! the process.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use martlet_storage::CountersRecord;

use super::{
    BYTES_IN, BYTES_OUT, Counters, DROP_REASONS, DROPPED, EVENTS, Event, LIMITS, Limit, PACKETS_IN,
    PACKETS_OUT, PAYLOAD_IN, PAYLOAD_OUT, PUBLISH_IN, PUBLISH_OUT, READS, READS_EMPTY, Snapshot,
    WAKES, WRITES, drop_name, packet_name,
};

/// The name of a cell in the store. Written names never change.
fn cell_name(cell: usize) -> Box<str> {
    let packet = |kind: usize| packet_name(kind as u8);
    match cell {
        BYTES_IN => "bytes_received".into(),
        BYTES_OUT => "bytes_sent".into(),
        PAYLOAD_IN => "payload_bytes_received".into(),
        PAYLOAD_OUT => "payload_bytes_sent".into(),
        PACKETS_IN..PACKETS_OUT => format!("packets_received.{}", packet(cell - PACKETS_IN)).into(),
        PACKETS_OUT..PUBLISH_IN => format!("packets_sent.{}", packet(cell - PACKETS_OUT)).into(),
        PUBLISH_IN..PUBLISH_OUT => format!("publish_received.qos{}", cell - PUBLISH_IN).into(),
        PUBLISH_OUT..DROPPED => format!("publish_sent.qos{}", cell - PUBLISH_OUT).into(),
        DROPPED..READS => {
            let reason = DROP_REASONS.get(cell - DROPPED);
            let name = reason.map_or("other", |reason| drop_name(*reason));
            format!("dropped.{name}").into()
        }
        READS => "socket_reads".into(),
        READS_EMPTY => "socket_reads_empty".into(),
        WRITES => "socket_writes".into(),
        WAKES => "subscriber_wakes".into(),
        EVENTS..LIMITS => format!("event.{}", Event::ALL[cell - EVENTS].name()).into(),
        _ => format!("limit.{}", Limit::ALL[cell - LIMITS].name()).into(),
    }
}

/// The name of a total by reason code; `what` is `refused` or `disconnected`.
fn reason_name(what: &str, code: usize) -> Box<str> {
    format!("{what}.0x{code:02x}").into()
}

const REFUSED: &str = "connects_refused";
const DISCONNECTED: &str = "disconnected";

/// No broker counts that far; more in a record is damage, and the sum of all totals must have room.
const TOTAL_MAX: u64 = 1 << 55;

impl Snapshot {
    /// All totals that are not zero.
    pub(crate) fn record(&self) -> CountersRecord {
        let cells = self.cells.iter().enumerate();
        let cells = cells.map(|(cell, total)| (cell_name(cell), *total));
        let by_reason = |what, totals: &[u64; 256]| {
            let counted = totals.iter().enumerate().filter(|(_, total)| **total > 0);
            let named = counted.map(|(code, total)| (reason_name(what, code), *total));
            named.collect::<Vec<_>>()
        };
        CountersRecord {
            totals: cells
                .filter(|(_, total)| *total > 0)
                .chain(by_reason(REFUSED, &self.refused))
                .chain(by_reason(DISCONNECTED, &self.disconnected))
                .collect(),
        }
    }
}

impl Counters {
    /// Goes on from what was counted before. Call once, at the start.
    pub(crate) fn go_on_from(&self, record: &CountersRecord) {
        // Any shard will do.
        let shard = &self.shards[0].0;
        let mut places: HashMap<Box<str>, &AtomicU64> = shard
            .iter()
            .enumerate()
            .map(|(cell, total)| (cell_name(cell), total))
            .collect();
        for (what, totals) in [(REFUSED, &self.refused), (DISCONNECTED, &self.disconnected)] {
            let codes = totals.iter().enumerate();
            places.extend(codes.map(|(code, total)| (reason_name(what, code), total)));
        }
        for (name, total) in &record.totals {
            if let Some(place) = places.get(name) {
                place.fetch_add((*total).min(TOTAL_MAX), Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use martlet_codec::{QoS, ReasonCode};
    use martlet_session::DropReason;

    use super::super::{CELLS, Gauge, Local};
    use super::*;

    #[test]
    fn every_total_has_a_name_of_its_own_and_goes_on() {
        let counters = Counters::new();
        // Totals that differ, in several shards.
        for (n, shard) in counters.shards.iter().enumerate() {
            for (cell, total) in shard.0.iter().enumerate() {
                total.store((cell * 3 + n) as u64, Relaxed);
            }
        }
        counters.connect_refused(ReasonCode::Banned);
        counters.client_connected();
        counters.client_disconnected(ReasonCode::Banned);
        counters.set_gauge(Gauge::Sessions, 5);
        let before = counters.snapshot();
        let record = before.record();
        let names: HashSet<_> = record.totals.iter().map(|(name, _)| name).collect();
        assert_eq!((names.len(), record.totals.len()), (CELLS + 2, CELLS + 2));

        let again = Counters::new();
        again.go_on_from(&record);
        let after = again.snapshot();
        assert_eq!(after.record(), record);
        assert_eq!(after.cells, before.cells);
        assert_eq!(
            (after.gauge(Gauge::Sessions), after.clients_maximum),
            (0, 0),
            "what there is now is not what there was"
        );
        again.event(Event::Connected);
        assert_eq!(
            again.snapshot().event(Event::Connected),
            before.event(Event::Connected) + 1
        );
    }

    /// Names in stores of users.
    #[test]
    fn names_are_what_they_were() {
        let counters = Counters::new();
        let mut local = Local::new();
        local.bytes_received(10);
        local.packet_received(3);
        local.publish_received(QoS::AtLeastOnce, 4);
        local.publish_sent(QoS::ExactlyOnce, 5, 1);
        local.dropped(DropReason::BodyLost);
        local.read_empty();
        local.subscriber_woken();
        local.flush(&counters);
        counters.bytes_sent(20);
        counters.event(Event::SocketAccepted);
        counters.limit(Limit::ReceiveMaximum);
        counters.connect_refused(ReasonCode::Banned);
        counters.client_disconnected(ReasonCode::Success);
        let totals = counters.snapshot().record().totals;
        let text: Vec<_> = totals
            .iter()
            .map(|(name, total)| format!("{name} {total}"))
            .collect();
        assert_eq!(
            text.join(", "),
            "bytes_received 10, bytes_sent 20, payload_bytes_received 4, payload_bytes_sent 5, \
             packets_received.PUBLISH 1, packets_sent.PUBLISH 1, publish_received.qos1 1, publish_sent.qos2 1, \
             dropped.body_lost 1, socket_reads 1, socket_reads_empty 1, socket_writes 1, subscriber_wakes 1, \
             event.sockets_accepted 1, limit.mqtt.receive_maximum 1, connects_refused.0x8a 1, disconnected.0x00 1"
        );
    }

    #[test]
    fn records_of_other_versions_and_absurd_ones_do_no_harm() {
        let totals = [
            ("what later versions count", 7),
            ("bytes_received", 5),
            ("publish_received.qos0", u64::MAX),
            ("publish_received.qos1", u64::MAX),
            ("", 1),
        ];
        let totals = totals.map(|(name, total)| (name.into(), total)).into();
        let counters = Counters::new();
        counters.go_on_from(&CountersRecord { totals });
        let snapshot = counters.snapshot();
        assert_eq!(snapshot.bytes_received(), 5);
        assert_eq!(snapshot.publish_received(), 2 * TOTAL_MAX);
        assert_eq!(snapshot.record().totals.len(), 3);
    }
}
