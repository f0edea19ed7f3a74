//! What an identity may publish to and subscribe to, compiled from lists of filters.
//!
//! A denied filter beats an allowed one. A subscription is granted when *one* allowed filter covers it, that is,
//! matches every topic it matches; the union of several allowed filters is not computed. Deliberately absent:
//! patterns with the user name or client id in them.

use martlet_topic::{TopicFilter, TopicName};

use crate::{ConfigError, config::Rights};

/// The compiled rights of one identity.
#[derive(Debug)]
pub(super) struct Access {
    publish: FilterSet,
    subscribe: FilterSet,
    judges_deliveries: bool,
}

impl Access {
    /// Compiles `rights`; `key` is where they stand in the configuration.
    pub(super) fn new(rights: &Rights, key: &str) -> Result<Self, ConfigError> {
        let filters = |list: &[String], name: &str| compile(list, &format!("{key}.{name}"));
        let publish = FilterSet::new(
            filters(&rights.publish, "publish")?,
            filters(&rights.deny_publish, "deny_publish")?,
        );
        let subscribe = FilterSet::new(
            filters(&rights.subscribe, "subscribe")?,
            filters(&rights.deny_subscribe, "deny_subscribe")?,
        );
        let judges_deliveries = subscribe.can_overlap_denied();
        Ok(Self {
            publish,
            subscribe,
            judges_deliveries,
        })
    }

    /// Nothing at all: the rights of a user who is no longer in the configuration. Deliveries are judged: what was
    /// subscribed to before brings nothing any more.
    pub(super) fn none() -> Self {
        Self {
            publish: FilterSet::default(),
            subscribe: FilterSet::default(),
            judges_deliveries: true,
        }
    }

    pub(super) fn may_publish(&self, topic: &str) -> bool {
        self.publish.permits(topic)
    }

    pub(super) fn may_subscribe(&self, filter: &str) -> bool {
        self.subscribe.permits_filter(filter)
    }

    /// Whether a subscription that is granted may match topics that are denied.
    pub(super) fn judges_deliveries(&self) -> bool {
        self.judges_deliveries
    }

    pub(super) fn may_receive(&self, topic: &str) -> bool {
        self.subscribe.permits(topic)
    }
}

/// Allowed and denied filters.
#[derive(Debug, Default)]
struct FilterSet {
    /// All topics but those that begin with `$` are allowed and none is denied: one branch instead of a walk.
    everything: bool,
    allowed: Box<[Box<str>]>,
    denied: Box<[Box<str>]>,
}

impl FilterSet {
    fn new(allowed: Box<[Box<str>]>, denied: Box<[Box<str>]>) -> Self {
        let everything = denied.is_empty()
            && allowed
                .iter()
                .any(|filter| matches!(&**filter, "#" | "+/#"));
        Self {
            everything,
            allowed,
            denied,
        }
    }

    fn permits(&self, topic: &str) -> bool {
        if self.everything && !topic.starts_with('$') {
            return true;
        }
        // The topic was validated when its packet was read.
        let topic = TopicName::trusted(topic);
        let matches = |filter: &str| TopicFilter::trusted(filter).matches(topic);
        self.allowed.iter().any(|f| matches(f)) && !self.denied.iter().any(|f| matches(f))
    }

    fn permits_filter(&self, filter: &str) -> bool {
        let Ok(requested) = TopicFilter::new(filter) else {
            return false;
        };
        let covers = |filter: &str| TopicFilter::trusted(filter).covers(requested);
        self.allowed.iter().any(|f| covers(f)) && !self.denied.iter().any(|f| covers(f))
    }

    /// Whether some filter that [`Self::permits_filter`] accepts matches a topic that is denied.
    ///
    /// Such a filter is covered by an allowed one, so that one meets the denied filter as well. An allowed filter
    /// that a denied one covers grants nothing and needs no judging.
    fn can_overlap_denied(&self) -> bool {
        let useful = |allowed: TopicFilter<'_>| {
            !self
                .denied
                .iter()
                .any(|d| TopicFilter::trusted(d).covers(allowed))
        };
        self.allowed
            .iter()
            .map(|filter| TopicFilter::trusted(filter))
            .filter(|allowed| useful(*allowed))
            .any(|allowed| {
                self.denied
                    .iter()
                    .any(|denied| intersects(allowed, TopicFilter::trusted(denied)))
            })
    }
}

/// Checks the filters of one list.
fn compile(list: &[String], key: &str) -> Result<Box<[Box<str>]>, ConfigError> {
    list.iter()
        .enumerate()
        .map(|(index, text)| {
            let problem = |problem: String| ConfigError {
                key: format!("{key}[{index}]"),
                problem,
            };
            if text.starts_with("$share/") {
                return Err(problem(format!(
                    "{text:?} names a share; rights are about the filter behind \"$share/<name>/\""
                )));
            }
            TopicFilter::new(text)
                .map_err(|error| problem(format!("{text:?} is not a topic filter: {error}")))?;
            Ok(text.as_str().into())
        })
        .collect()
}

/// Whether some topic matches both filters.
fn intersects(a: TopicFilter<'_>, b: TopicFilter<'_>) -> bool {
    // A leading wildcard matches no topic that begins with `$` [MQTT-4.7.2-1].
    if (a.starts_with_wildcard() && b.is_dollar()) || (b.starts_with_wildcard() && a.is_dollar()) {
        return false;
    }
    let (mut a_levels, mut b_levels) = (a.split(), b.split());
    // Whether all that was compared so far is one empty level: a topic has at least one character [MQTT-4.7.3-1].
    let mut only_empty = false;
    for level in 0.. {
        match (a_levels.next(), b_levels.next()) {
            // `a/#` matches `a` too, so `#` meets whatever is left, nothing included.
            (Some("#"), None) | (None, Some("#")) => return !only_empty,
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(_), None) | (None, Some(_)) => return false,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {
                only_empty = level == 0 && (a.is_empty() || b.is_empty());
            }
            (Some(_), Some(_)) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn access(publish: &str, deny_publish: &str, subscribe: &str, deny_subscribe: &str) -> Access {
        let rights = Rights {
            publish: list(publish),
            subscribe: list(subscribe),
            deny_publish: list(deny_publish),
            deny_subscribe: list(deny_subscribe),
        };
        Access::new(&rights, "anonymous.rights").expect("valid filters")
    }

    #[test]
    fn publishing_is_allowed_by_a_matching_filter_and_no_denied_one() {
        fn check(allowed: &str, denied: &str, topic: &str, expected: bool) {
            let access = access(allowed, denied, "", "");
            assert_eq!(
                access.may_publish(topic),
                expected,
                "allow {allowed:?} deny {denied:?} topic {topic:?}"
            );
        }
        check("#", "", "a/b", true);
        check("+/#", "", "a/b", true);
        check("#", "", "$SYS/x", false);
        check("#", "", "$", false);
        check("# $SYS/#", "", "$SYS/x", true);
        check("", "", "a", false);
        check("home/#", "", "home", true);
        check("home/#", "", "home/kitchen/lamp", true);
        check("home/#", "", "homer", false);
        check("home/+/set", "", "home/lamp/set", true);
        check("home/+/set", "", "home/lamp/get", false);
        check("home/+/set", "", "home/a/b/set", false);
        check("#", "home/alarm/#", "home/alarm", false);
        check("#", "home/alarm/#", "home/alarm/off", false);
        check("#", "home/alarm/#", "home/lamp", true);
        check("home/alarm/off", "#", "home/alarm/off", false);
        check("a b c", "", "c", true);
    }

    #[test]
    fn subscribing_needs_an_allowed_filter_that_covers_and_no_denied_one_that_does() {
        fn check(allowed: &str, denied: &str, filter: &str, expected: bool) {
            let access = access("", "", allowed, denied);
            assert_eq!(
                access.may_subscribe(filter),
                expected,
                "allow {allowed:?} deny {denied:?} filter {filter:?}"
            );
        }
        check("#", "", "#", true);
        check("#", "", "+/#", true);
        check("+/#", "", "#", true);
        check("#", "", "a/+/c", true);
        check("#", "", "$SYS/#", false);
        check("# $SYS/#", "", "$SYS/#", true);
        check("# $SYS/#", "", "$SYS/broker/uptime", true);
        check("+/b", "", "$SYS/b", false);
        check("home/+", "", "home/+", true);
        check("home/+", "", "home/lamp", true);
        check("home/+", "", "home/#", false);
        check("home/+", "", "+/+", false);
        check("home/+", "", "home/a/b", false);
        check("home/#", "", "home", true);
        check("home/#", "", "home/#", true);
        check("home/#", "", "home/+/#", true);
        check("home/+/#", "", "home/#", false);
        check("home/#", "", "#", false);
        check("home/#", "", "+", false);
        check("a/b a/c", "", "a/+", false);
        check("#", "home/alarm/#", "home/alarm/#", false);
        check("#", "home/alarm/#", "home/alarm", false);
        check("#", "home/alarm/#", "home/alarm/+", false);
        check("#", "home/alarm/#", "home/#", true);
        check("#", "home/alarm/#", "#", true);
        check("", "", "a", false);
        check("#", "", "a/#/b", false);
        check("#", "", "", false);
    }

    #[test]
    fn deliveries_are_judged_where_a_granted_filter_may_meet_a_denied_one() {
        fn check(allowed: &str, denied: &str, expected: bool) {
            let access = access("", "", allowed, denied);
            assert_eq!(
                access.judges_deliveries(),
                expected,
                "allow {allowed:?} deny {denied:?}"
            );
        }
        check("#", "", false);
        check("#", "secret/#", true);
        check("home/#", "secret/#", false);
        check("home/#", "+/alarm", true);
        check("home/+", "home/alarm/#", true);
        check("home/+", "home/alarm/off", false);
        check("#", "$SYS/#", false);
        check("# $SYS/#", "$SYS/broker/clients/#", true);
        // What is covered by a denied filter is never granted.
        check("secret/a", "secret/#", false);
        check("secret/a home/#", "secret/#", false);
    }

    #[test]
    fn a_judged_delivery_hides_denied_topics_and_nothing_else() {
        let access = access("", "", "# $SYS/#", "home/alarm/# $SYS/broker/clients/+");
        assert!(access.may_receive("home/lamp"));
        assert!(access.may_receive("$SYS/broker/uptime"));
        assert!(!access.may_receive("home/alarm"));
        assert!(!access.may_receive("home/alarm/code"));
        assert!(!access.may_receive("$SYS/broker/clients/total"));
    }

    #[test]
    fn no_rights_permit_nothing() {
        let none = Access::none();
        assert!(!none.may_publish("a") && !none.may_subscribe("a") && !none.may_receive("a"));
        assert!(none.judges_deliveries());
    }

    #[test]
    fn a_bad_filter_is_named_with_its_place() {
        fn check(filter: &str, expected: &str) {
            let rights = Rights {
                deny_subscribe: vec!["ok/#".into(), filter.into()],
                ..Rights::default()
            };
            let error = Access::new(&rights, "users[3].rights").expect_err("refused");
            assert_eq!(error.key, "users[3].rights.deny_subscribe[1]");
            assert!(error.problem.contains(expected), "{}", error.problem);
        }
        check("", "at least one character");
        check("a/#/b", "'#' must be the last level");
        check("a/b+", "'+' must fill a whole level");
        check("$share/g/a", "the filter behind");
    }

    /// Topics of up to five levels; the letters of [`filter`] plus one that no filter names.
    fn all_topics() -> Vec<String> {
        let letters = ["", "a", "$b", "z"];
        let mut topics: Vec<String> = Vec::new();
        let mut last = vec![String::new()];
        for depth in 0..5 {
            let longer = |prefix: &String, letter: &&str| match depth {
                0 => (*letter).to_owned(),
                _ => format!("{prefix}/{letter}"),
            };
            last = last
                .iter()
                .flat_map(|p| letters.iter().map(move |l| longer(p, l)))
                .collect();
            topics.extend(last.iter().filter(|topic| !topic.is_empty()).cloned());
        }
        topics
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["", "a", "$b", "+"]);
        (prop::collection::vec(level, 0..4), any::<bool>())
            .prop_map(|(mut levels, open)| {
                if open {
                    levels.push("#");
                }
                levels.join("/")
            })
            .prop_filter("a filter has a character", |text| !text.is_empty())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// The oracle: try every topic.
        #[test]
        fn cover_and_intersection_agree_with_trying_every_topic(a in filter(), b in filter()) {
            let (left, right) = (TopicFilter::new(&a).unwrap(), TopicFilter::new(&b).unwrap());
            let topics = all_topics();
            let matched = |filter: TopicFilter<'_>, topic: &String| filter.matches(TopicName::new(topic).unwrap());
            let meets = topics.iter().any(|t| matched(left, t) && matched(right, t));
            prop_assert_eq!(intersects(left, right), meets, "{} and {} meet", a, b);
            let covers = topics.iter().all(|t| !matched(right, t) || matched(left, t));
            prop_assert_eq!(left.covers(right), covers, "{} covers {}", a, b);
        }

        /// Whatever is granted, no denied topic is delivered and no topic that was not allowed.
        #[test]
        fn granted_subscriptions_deliver_allowed_topics_only(
            allowed in prop::collection::vec(filter(), 1..3),
            denied in prop::collection::vec(filter(), 0..3),
            requested in filter(),
        ) {
            let access = access("", "", &allowed.join(" "), &denied.join(" "));
            prop_assume!(access.may_subscribe(&requested));
            let matched = |filter: &String, topic: &String| {
                TopicFilter::new(filter).unwrap().matches(TopicName::new(topic).unwrap())
            };
            for topic in all_topics().iter().filter(|topic| matched(&requested, topic)) {
                let delivered = !access.judges_deliveries() || access.may_receive(topic);
                let permitted = allowed.iter().any(|f| matched(f, topic)) && !denied.iter().any(|f| matched(f, topic));
                prop_assert_eq!(delivered, permitted, "{} of {}", topic, requested);
            }
        }
    }
}
