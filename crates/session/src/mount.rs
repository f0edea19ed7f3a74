//! Mount points: what the topics of some clients begin with, unknown to them.
//!
//! Inside of the broker there are whole topics only; this is where they are made and taken apart again. Deliberately
//! absent: who has a mount point, and what a client may name with it.

use std::sync::Arc;

use martlet_codec::{Property, Props, PropsBuf};
use martlet_topic::Filter;

/// The first part of each topic of a client, ending with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount(Arc<str>);

impl Mount {
    /// `None` for an empty prefix.
    pub fn new(prefix: &str) -> Option<Self> {
        (!prefix.is_empty()).then(|| Self(prefix.into()))
    }

    /// The prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the client calls `name`, `full` in the broker. What does not begin with the prefix (`$SYS`) is called alike.
    pub fn local<'a>(&self, full: &'a str) -> &'a str {
        full.strip_prefix(&*self.0).unwrap_or(full)
    }

    /// What is called `local` by the client.
    pub fn full(&self, local: &str) -> String {
        [&*self.0, local].concat()
    }

    /// The filter that the client calls `local`. A share name stays in front. Filters of `$` topics are left as they
    /// are, and so is what is no filter: both are for others to judge. `queue`: whether `$queue/` is a share.
    pub fn full_filter(&self, local: &str, queue: bool) -> String {
        let parsed = if queue {
            Filter::parse_with_queue(local)
        } else {
            Filter::parse(local)
        };
        let Ok(parsed) = parsed else {
            return local.to_owned();
        };
        let filter = parsed.topic_filter().as_str();
        if filter.starts_with('$') {
            return local.to_owned();
        }
        // The filter is the end of the text.
        let share = local.strip_suffix(filter).unwrap_or_default();
        [share, &*self.0, filter].concat()
    }

    /// Properties of a message from the client: its Response Topic is one of its topics.
    pub fn full_props(&self, props: Props<'_>) -> PropsBuf {
        rewritten(props, |topic| Some(self.full(topic)))
    }

    /// Properties of a message for the client, if they change; a Response Topic that it cannot name is left out.
    pub(crate) fn local_props(&self, props: &[u8]) -> Option<PropsBuf> {
        let props = Props::from_trusted(props);
        props.response_topic()?;
        Some(rewritten(props, |topic| {
            topic.strip_prefix(&*self.0).map(str::to_owned)
        }))
    }
}

/// The properties, with another Response Topic or none.
fn rewritten(props: Props<'_>, response_topic: impl Fn(&str) -> Option<String>) -> PropsBuf {
    let mut new = PropsBuf::new();
    for property in props {
        if let Property::ResponseTopic(topic) = property {
            if let Some(topic) = response_topic(topic) {
                new.push(Property::ResponseTopic(&topic));
            }
        } else {
            new.push(property);
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_get_the_prefix_where_it_belongs() {
        let mount = Mount::new("m/").expect("not empty");
        let check = |local: &str, full: &str| {
            assert_eq!(mount.full_filter(local, true), full, "{local}");
        };
        check("a/b", "m/a/b");
        check("#", "m/#");
        check("+/x", "m/+/x");
        check("/", "m//");
        check("$share/g/a/#", "$share/g/m/a/#");
        check("$share/a/a", "$share/a/m/a");
        check("$queue/a", "$queue/m/a");
        check("$SYS/#", "$SYS/#");
        check("$share/g/$SYS/#", "$share/g/$SYS/#");
        check("$other", "$other");
        for wrong in ["", "a#", "$share/g", "$share//a", "$share/g/"] {
            check(wrong, wrong);
        }
        assert_eq!(mount.full_filter("$queue/a", false), "$queue/a");
    }

    #[test]
    fn topics_and_response_topics_go_there_and_back() {
        let mount = Mount::new("m/").expect("not empty");
        assert_eq!(mount.full("a"), "m/a");
        assert_eq!((mount.local("m/a"), mount.local("$SYS/a")), ("a", "$SYS/a"));
        let sent = PropsBuf::new()
            .with(Property::ContentType("c"))
            .with(Property::ResponseTopic("r"));
        let full = mount.full_props(sent.as_props());
        assert_eq!(full.as_props().response_topic(), Some("m/r"));
        let back = mount.local_props(full.as_props().as_bytes());
        assert_eq!(back, Some(sent.clone()));
        let foreign = mount.local_props(sent.as_props().as_bytes());
        assert_eq!(
            foreign,
            Some(PropsBuf::new().with(Property::ContentType("c")))
        );
        let none = PropsBuf::new().with(Property::ContentType("c"));
        assert_eq!(mount.local_props(none.as_props().as_bytes()), None);
        assert_eq!(Mount::new(""), None);
    }
}
