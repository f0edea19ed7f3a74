//! The default [`Authenticator`] and [`Authorizer`]: the `[[users]]` table, their rights, and anonymous access.
//!
//! [`StaticAuth`] is compiled once from a [`Config`] and never changes; a reload makes a successor. Deliberately
//! absent: files, other password schemes than argon2id, and enhanced authentication.

mod password;
mod rights;
mod users;

use std::{collections::HashMap, sync::Arc};

use martlet_codec::{QoS, ReasonCode};

pub use password::{HashPasswordError, PasswordHashError, hash_password, verify};

use crate::{
    ConfigError,
    config::Config,
    hooks::{Authenticator, Authorizer, ConnectRequest, Decision, Identity, Origin, Refusal},
};
use rights::Access;
use users::{Login, Users, foreign_client_id};

/// [`Identity::rights`] of clients without a user of their own.
pub const ANONYMOUS: u32 = 0;

/// Authentication and authorisation by the settings alone.
///
/// * A client that gives a user name logs in as that user. Where there are no users, and for an empty user name,
///   it counts as anonymous: there is nothing to compare with, and many devices always send something.
/// * An anonymous client is admitted as `anonymous.allow` says. Where that is not set: through listeners that only
///   this machine can reach, while there are no users.
pub struct StaticAuth {
    allow_anonymous: Option<bool>,
    users: Users,
    /// By [`Identity::rights`]. A user who was removed keeps the place, with no rights.
    rights: Vec<Access>,
    /// The place of each user that ever was.
    places: HashMap<Box<str>, u32>,
}

impl StaticAuth {
    /// Compiles the users and rights of `config`.
    ///
    /// # Errors
    /// [`ConfigError`] with the key of the first mistake: a name that is empty or given twice, a password hash that
    /// cannot be used, a text that is not a topic filter.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        Self::compile(config, None)
    }

    /// Compiles a `config` that replaces the current one while clients are connected: [`Identity::rights`] given
    /// out before keep their meaning. A user who is gone has no rights any more, one who is back has them again.
    ///
    /// # Errors
    /// As [`StaticAuth::new`]; `self` is as good as before.
    pub fn successor(&self, config: &Config) -> Result<Self, ConfigError> {
        Self::compile(config, Some(self))
    }

    fn compile(config: &Config, before: Option<&Self>) -> Result<Self, ConfigError> {
        let mut places = before.map_or_else(HashMap::new, |before| before.places.clone());
        for user in &config.users {
            let next = places.len() as u32 + 1;
            places.entry(user.name.as_str().into()).or_insert(next);
        }
        let place = |name: &str| places.get(name).copied().unwrap_or(u32::MAX);
        let users = Users::new(&config.users, place, before.map(|before| &before.users))?;
        let mut rights: Vec<Access> = (0..=places.len()).map(|_| Access::none()).collect();
        rights[ANONYMOUS as usize] = Access::new(&config.anonymous.rights, "anonymous.rights")?;
        for (index, user) in config.users.iter().enumerate() {
            let access = Access::new(&user.rights, &format!("users[{index}].rights"))?;
            if let Some(rights) = rights.get_mut(place(&user.name) as usize) {
                *rights = access;
            }
        }
        Ok(Self {
            allow_anonymous: config.anonymous.allow,
            users,
            rights,
            places,
        })
    }

    /// Why an anonymous client that comes in through `origin` would be refused, in words that say what to set;
    /// `None` if it would be admitted. Also for the report at start.
    pub fn anonymous_refusal(&self, local_only: bool) -> Option<&'static str> {
        match (self.allow_anonymous, self.users.is_empty()) {
            (Some(true), _) => None,
            (Some(false), true) => Some(
                "Not authorized: anonymous.allow is false and the broker has no users; set [[users]]",
            ),
            (Some(false), false) => Some("Not authorized: a user name and password are required"),
            (None, false) => Some(
                "Not authorized: a user name and password are required; anonymous.allow = true admits clients without",
            ),
            (None, true) if local_only => None,
            (None, true) => Some(
                "Not authorized: this listener is reachable from other machines and the broker has no users; \
                 set [[users]] or anonymous.allow = true",
            ),
        }
    }

    fn anonymous(&self, origin: &Origin, client_id: &str) -> Result<u32, Refusal> {
        let refusal = match origin.allow_anonymous {
            Some(true) => None,
            Some(false) => {
                Some("Not authorized: a user name and password are required at this listener")
            }
            None => self.anonymous_refusal(origin.local_only),
        };
        match refusal {
            Some(text) => Err(Refusal {
                reason: ReasonCode::NotAuthorized,
                text: text.into(),
            }),
            None if self.users.owns_client_id(client_id) => Err(foreign_client_id()),
            None => Ok(ANONYMOUS),
        }
    }

    fn access(&self, who: &Identity) -> Option<&Access> {
        self.rights.get(who.rights as usize)
    }
}

impl Authenticator for StaticAuth {
    fn authenticate(&self, request: ConnectRequest) -> Decision<Result<u32, Refusal>> {
        if let Some(username) = &request.presented.username {
            let decision = self.users.vouched(username, &request.client_id);
            return Decision::Ready(decision.unwrap_or(Ok(ANONYMOUS)));
        }
        let username = request
            .username
            .as_deref()
            .filter(|name| !name.is_empty() && !self.users.is_empty());
        match username {
            Some(username) => {
                let client_id: Arc<str> = Arc::clone(&request.client_id);
                self.users.login(Login {
                    username,
                    password: request.password,
                    client_id,
                })
            }
            None => Decision::Ready(self.anonymous(&request.origin, &request.client_id)),
        }
    }
}

impl Authorizer for StaticAuth {
    fn publish(&self, who: &Identity, topic: &str, _qos: QoS, _retain: bool) -> Decision<bool> {
        Decision::Ready(
            self.access(who)
                .is_some_and(|access| access.may_publish(topic)),
        )
    }

    fn subscribe(&self, who: &Identity, filter: &str, qos: QoS) -> Decision<Option<QoS>> {
        Decision::Ready(
            self.access(who)
                .filter(|access| access.may_subscribe(filter))
                .map(|_| qos),
        )
    }

    fn judges_deliveries(&self, who: &Identity) -> bool {
        // A handle that means nothing is judged, and gets nothing.
        self.access(who).is_none_or(Access::judges_deliveries)
    }

    fn deliver(&self, who: &Identity, topic: &str) -> bool {
        self.access(who)
            .is_some_and(|access| access.may_receive(topic))
    }

    fn keeps_subscription(&self, who: &Identity, filter: &str) -> bool {
        self.access(who)
            .is_some_and(|access| access.may_subscribe(filter))
    }

    fn rights_of(&self, _client_id: &str, username: Option<&str>) -> Option<u32> {
        // A name that only a certificate vouched for has the rights of everybody.
        let place = username.and_then(|name| self.places.get(name));
        Some(place.copied().unwrap_or(ANONYMOUS))
    }
}

#[cfg(test)]
mod tests {
    use martlet_codec::Version;

    use super::*;
    use crate::config::{Anonymous, Rights, User};

    fn user(name: &str, rights: Rights) -> User {
        let password_hash = password::hash_with_cost(b"secret", 8, 1, 1).expect("hash");
        User {
            name: name.into(),
            password_hash,
            rights,
            ..User::default()
        }
    }

    fn only(filter: &str) -> Rights {
        Rights {
            publish: vec![filter.into()],
            subscribe: vec![filter.into()],
            ..Rights::default()
        }
    }

    fn config(allow: Option<bool>, users: Vec<User>) -> Config {
        Config {
            anonymous: Anonymous {
                allow,
                rights: only("public/#"),
            },
            users,
            ..Config::default()
        }
    }

    fn auth(config: &Config) -> StaticAuth {
        StaticAuth::new(config).unwrap_or_else(|e| panic!("{}: {}", e.key, e.problem))
    }

    fn origin(local_only: bool) -> Origin {
        Origin {
            listener: "tcp".into(),
            peer: "127.0.0.1:5".into(),
            address: None,
            local_only,
            allow_anonymous: None,
        }
    }

    fn identity(rights: u32) -> Identity {
        Identity {
            client_id: "c".into(),
            username: None,
            origin: origin(true),
            rights,
        }
    }

    async fn connect(
        auth: &StaticAuth,
        local_only: bool,
        username: Option<&str>,
        password: Option<&str>,
    ) -> Result<u32, Refusal> {
        let request = ConnectRequest {
            origin: origin(local_only),
            client_id: "c".into(),
            version: Version::V5,
            username: username.map(str::to_owned),
            password: password.map(|text| text.as_bytes().to_vec()),
            presented: crate::hooks::Presented::default(),
        };
        match auth.authenticate(request) {
            Decision::Ready(answer) => answer,
            Decision::Later(answer) => answer.await,
        }
    }

    fn may_publish(auth: &StaticAuth, rights: u32, topic: &str) -> bool {
        matches!(
            auth.publish(&identity(rights), topic, QoS::AtMostOnce, false),
            Decision::Ready(true)
        )
    }

    #[tokio::test]
    async fn anonymous_clients_are_admitted_by_the_rule() {
        async fn check(allow: Option<bool>, users: bool, local_only: bool, refusal: Option<&str>) {
            let users = if users {
                vec![user("ann", Rights::default())]
            } else {
                Vec::new()
            };
            let auth = auth(&config(allow, users));
            let expected = match refusal {
                None => Ok(ANONYMOUS),
                Some(text) => Err(Refusal {
                    reason: ReasonCode::NotAuthorized,
                    text: text.into(),
                }),
            };
            // A password without a user name, and an empty user name, change nothing.
            for (username, password) in [
                (None, None),
                (Some(""), None),
                (Some(""), Some("x")),
                (None, Some("x")),
            ] {
                let answer = connect(&auth, local_only, username, password).await;
                assert_eq!(
                    answer, expected,
                    "{allow:?} local {local_only} {username:?} {password:?}"
                );
            }
        }
        let open = "Not authorized: this listener is reachable from other machines and the broker has no users; \
                    set [[users]] or anonymous.allow = true";
        let required = "Not authorized: a user name and password are required; \
                        anonymous.allow = true admits clients without";
        check(None, false, true, None).await;
        check(None, false, false, Some(open)).await;
        check(None, true, true, Some(required)).await;
        check(None, true, false, Some(required)).await;
        check(Some(true), false, false, None).await;
        check(Some(true), true, false, None).await;
        let nobody =
            "Not authorized: anonymous.allow is false and the broker has no users; set [[users]]";
        check(Some(false), false, true, Some(nobody)).await;
        check(
            Some(false),
            true,
            true,
            Some("Not authorized: a user name and password are required"),
        )
        .await;
    }

    #[test]
    fn a_listener_may_decide_about_anonymous_clients() {
        let check = |allow, at_listener, admitted| {
            let auth = auth(&config(allow, Vec::new()));
            let origin = Origin {
                allow_anonymous: at_listener,
                ..origin(false)
            };
            assert_eq!(auth.anonymous(&origin, "c").is_ok(), admitted);
        };
        check(None, None, false);
        check(None, Some(true), true);
        check(Some(false), Some(true), true);
        check(Some(true), Some(false), false);
        check(Some(true), None, true);
    }

    #[tokio::test]
    async fn a_user_name_counts_for_nothing_where_there_are_no_users() {
        let auth = auth(&config(None, Vec::new()));
        assert_eq!(
            connect(&auth, true, Some("tasmota"), Some("x")).await,
            Ok(ANONYMOUS)
        );
        let refused = connect(&auth, false, Some("tasmota"), Some("x")).await;
        assert_eq!(
            refused.map_err(|refusal| refusal.reason),
            Err(ReasonCode::NotAuthorized)
        );
    }

    #[tokio::test]
    async fn a_wrong_password_is_not_saved_by_anonymous_access() {
        let auth = auth(&config(Some(true), vec![user("ann", Rights::default())]));
        for (name, password) in [("ann", "wrong"), ("eve", "secret")] {
            let refused = connect(&auth, true, Some(name), Some(password))
                .await
                .expect_err("refused");
            assert_eq!(refused.reason, ReasonCode::BadUserNameOrPassword);
            assert_eq!(refused.text, "Bad user name or password");
        }
    }

    #[tokio::test]
    async fn a_client_id_of_a_user_is_not_for_anonymous_clients() {
        let bound = User {
            client_id: "c".into(),
            ..user("ann", Rights::default())
        };
        let auth = auth(&config(Some(true), vec![bound]));
        let refused = connect(&auth, true, None, None).await.expect_err("refused");
        assert_eq!(refused.reason, ReasonCode::ClientIdentifierNotValid);
        assert!(
            connect(&auth, true, Some("ann"), Some("secret"))
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn each_identity_has_its_own_rights() {
        let auth = auth(&config(
            Some(true),
            vec![user("ann", only("ann/#")), user("bob", only("bob/#"))],
        ));
        let ann = connect(&auth, true, Some("ann"), Some("secret"))
            .await
            .expect("ann");
        let bob = connect(&auth, true, Some("bob"), Some("secret"))
            .await
            .expect("bob");
        for (rights, own) in [(ANONYMOUS, "public/x"), (ann, "ann/x"), (bob, "bob/x")] {
            for topic in ["public/x", "ann/x", "bob/x"] {
                assert_eq!(
                    may_publish(&auth, rights, topic),
                    topic == own,
                    "{rights} {topic}"
                );
                let granted = auth.subscribe(&identity(rights), topic, QoS::AtLeastOnce);
                let expected = (topic == own).then_some(QoS::AtLeastOnce);
                assert!(
                    matches!(granted, Decision::Ready(granted) if granted == expected),
                    "{rights} {topic}"
                );
            }
        }
    }

    #[test]
    fn a_handle_that_means_nothing_may_do_nothing() {
        let auth = auth(&Config::default());
        let nobody = identity(9);
        assert!(!may_publish(&auth, 9, "a"));
        assert!(matches!(
            auth.subscribe(&nobody, "a", QoS::AtMostOnce),
            Decision::Ready(None)
        ));
        assert!(auth.judges_deliveries(&nobody));
        assert!(!auth.deliver(&nobody, "a"));
    }

    #[test]
    fn the_default_rights_are_everything_but_writing_dollar_topics() {
        let auth = auth(&Config::default());
        let who = identity(ANONYMOUS);
        assert!(may_publish(&auth, ANONYMOUS, "a/b"));
        assert!(!may_publish(&auth, ANONYMOUS, "$SYS/broker/uptime"));
        for filter in ["#", "+/b", "$SYS/#", "$SYS/broker/uptime"] {
            assert!(
                matches!(
                    auth.subscribe(&who, filter, QoS::ExactlyOnce),
                    Decision::Ready(Some(_))
                ),
                "{filter}"
            );
        }
        assert!(!auth.judges_deliveries(&who));
    }

    #[tokio::test]
    async fn handles_survive_a_reload() {
        let (ann, bob, cleo) = (
            user("ann", only("ann/#")),
            user("bob", only("bob/#")),
            user("cleo", only("cleo/#")),
        );
        let first = auth(&config(None, vec![ann.clone(), bob.clone()]));
        let old_bob = connect(&first, true, Some("bob"), Some("secret"))
            .await
            .expect("bob");
        assert!(may_publish(&first, old_bob, "bob/x"));

        let bob_is_gone = config(None, vec![cleo.clone(), ann.clone()]);
        let second = first
            .successor(&bob_is_gone)
            .unwrap_or_else(|e| panic!("{}", e.problem));
        assert!(
            !may_publish(&second, old_bob, "bob/x") && !may_publish(&second, old_bob, "cleo/x")
        );
        let new_cleo = connect(&second, true, Some("cleo"), Some("secret"))
            .await
            .expect("cleo");
        assert!(may_publish(&second, new_cleo, "cleo/x"));

        let bob_is_back = config(None, vec![bob, cleo, ann]);
        let third = second
            .successor(&bob_is_back)
            .unwrap_or_else(|e| panic!("{}", e.problem));
        assert!(may_publish(&third, old_bob, "bob/x") && may_publish(&third, new_cleo, "cleo/x"));
    }

    #[test]
    fn mistakes_in_rights_name_their_key() {
        let mut wrong = config(
            None,
            vec![user("ann", Rights::default()), user("bob", only("a/#/b"))],
        );
        let error = StaticAuth::new(&wrong).err().expect("refused");
        assert_eq!(error.key, "users[1].rights.publish[0]");
        wrong.users.clear();
        wrong.anonymous.rights.subscribe = vec!["ok".into(), String::new()];
        let error = StaticAuth::new(&wrong).err().expect("refused");
        assert_eq!(error.key, "anonymous.rights.subscribe[1]");
        let good = auth(&Config::default());
        assert!(good.successor(&wrong).is_err());
    }
}
