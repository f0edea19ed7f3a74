//! Fuzz target: arbitrary bytes as each kind of record end in a value or an error, and what was read is
//! written as the same bytes: no two records mean the same, and nothing is lost on the way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use martlet_codec::PacketId;
use martlet_storage::{
    CountersRecord, Message, MessageId, Meta, OutboundRow, QueuedRow, SessionRecord, StoreOp,
    SubscriptionRow, WillRecord, decode_batch, encode_batch,
};

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else {
        return;
    };
    let again = match kind % 10 {
        0 => StoreOp::decode(bytes).ok().map(|op| {
            let mut again = Vec::new();
            op.encode(&mut again);
            again
        }),
        1 => decode_batch(bytes)
            .ok()
            .map(|(lsn, ops)| encode_batch(lsn, &ops)),
        2 => SessionRecord::decode(bytes)
            .ok()
            .map(|record| record.encode()),
        3 => WillRecord::decode(bytes).ok().map(|record| record.encode()),
        4 => Message::from_record(bytes).ok().map(|message| {
            let parts = message.topic().len() + message.props().len() + message.payload().len();
            assert_eq!(parts, message.len_bytes());
            let built = Message::new(
                message.head(),
                message.topic(),
                message.props(),
                message.payload(),
                &mut Vec::new(),
            );
            assert_eq!(built, message);
            message.as_record().to_vec()
        }),
        5 => QueuedRow::decode(MessageId::new(1), bytes)
            .ok()
            .map(|row| row.encode()),
        6 => PacketId::new(1)
            .and_then(|id| OutboundRow::decode(id, bytes).ok())
            .map(|row| row.encode()),
        7 => SubscriptionRow::decode(b"a/b", bytes)
            .ok()
            .map(|row| row.encode()),
        8 => Meta::decode(bytes).ok().map(|meta| meta.encode()),
        _ => CountersRecord::decode(bytes)
            .ok()
            .map(|record| record.encode()),
    };
    if let Some(again) = again {
        assert_eq!(again, bytes);
    }
});
