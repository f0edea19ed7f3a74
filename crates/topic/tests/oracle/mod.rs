//! The oracle: topic matching in ten lines, written from section 4.7 of the specification and from
//! nothing else. Recursive, slow and obviously right; shared by the tests and the fuzz target.

/// Whether `filter` matches `topic`; both are taken as valid.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            ([f, filter @ ..], [t, topic @ ..]) => (f == t || *f == "+") && levels(filter, topic),
            _ => false,
        }
    }
    let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
    let (filter, topic): (Vec<_>, Vec<_>) =
        (filter.split('/').collect(), topic.split('/').collect());
    !hidden && levels(&filter, &topic)
}
