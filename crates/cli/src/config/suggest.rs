//! "Did you mean": the likely spelling of a word that nobody knows.

/// Words longer than this are not compared; no key is half as long.
const WORD_CHARS_MAX: usize = 64;

/// The candidate nearest to `word`, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let length = word.chars().count();
    if length > WORD_CHARS_MAX {
        return None;
    }
    // A third of the letters may differ: `recieve_maximun` finds its key, `port` does not become `log`.
    let bound = (length / 3).max(1);
    let word = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete, replace or swap with their neighbour to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &to) in b.iter().enumerate() {
            let mut cost = (last[j] + usize::from(from != to))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                cost = cost.min(before_last[j - 1] + 1);
            }
            row.push(cost);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// What settings of other brokers are called here: their word, our key, and a remark.
const ELSEWHERE: [(&str, &str); 23] = [
    ("allow_anonymous", "set `allow = true` in [anonymous]"),
    (
        "password_file",
        "list users as [[users]]; `martlet passwd NAME` prints the lines",
    ),
    (
        "acl_file",
        "write `rights.publish` and `rights.subscribe` of each user in [[users]]",
    ),
    (
        "listener",
        "listeners are [[listeners]] tables with a `url`",
    ),
    (
        "bind_address",
        "listeners are [[listeners]] tables with a `url`",
    ),
    ("port", "listeners are [[listeners]] tables with a `url`"),
    ("host", "listeners are [[listeners]] tables with a `url`"),
    (
        "protocol",
        "the protocol is the scheme of a listener's `url`: tcp:// or ws://",
    ),
    (
        "persistence",
        "everything durable is kept unless [storage] has `backend = \"memory\"`",
    ),
    ("persistence_location", "set `path` in [storage]"),
    ("autosave_interval", "set `fsync` in [storage]"),
    ("max_connections", "set `connections_max` in [limits]"),
    ("max_packet_size", "set `maximum_packet_size` in [mqtt]"),
    ("message_size_limit", "set `maximum_packet_size` in [mqtt]"),
    ("max_inflight_messages", "set `inflight_max` in [limits]"),
    (
        "max_queued_messages",
        "set `queued_messages_max` in [limits]",
    ),
    ("max_queued_bytes", "set `queued_bytes_max` in [limits]"),
    ("queue_qos0_messages", "set `queue_qos0` in [mqtt]"),
    ("max_keepalive", "set `keep_alive_max_secs` in [mqtt]"),
    (
        "persistent_client_expiration",
        "set `session_expiry_v3_secs` in [mqtt]",
    ),
    ("sys_interval", "set `interval` in [sys]"),
    ("log_type", "set `level` in [log]"),
    ("log_dest", "the log goes to the standard error stream"),
];

/// What to do about a key that Mosquitto has under another name.
pub(crate) fn from_elsewhere(word: &str) -> Option<&'static str> {
    ELSEWHERE
        .iter()
        .find(|(theirs, _)| *theirs == word)
        .map(|(_, remedy)| *remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found() {
        let keys = [
            "connections_max",
            "sessions_max",
            "receive_maximum",
            "level",
            "format",
        ];
        let check = |word: &str, key: Option<&str>| assert_eq!(nearest(word, keys), key, "{word}");
        check("conections_max", Some("connections_max"));
        check("recieve_maximun", Some("receive_maximum"));
        check("Receive-Maximum", Some("receive_maximum"));
        check("levle", Some("level"));
        check("port", None);
        check("", None);
        check(&"x".repeat(10_000), None);
    }
}
