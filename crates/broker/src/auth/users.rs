//! The static table of users, and logins against it.
//!
//! A login costs an argon2 verification, which is slow on purpose: it runs on the blocking pool, a few at a time,
//! and whether the user exists makes no difference to how long it takes. Deliberately absent: rate limits per
//! address, and lock-out (which hands an attacker the means to lock others out).

use std::{
    collections::{HashMap, HashSet},
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use martlet_codec::ReasonCode;
use martlet_sync::Mutex;
use tokio::sync::Semaphore;

use super::password::{Digest, PasswordHash, QuickDigest, same_digest};
use crate::{
    ConfigError,
    config::User,
    hooks::{Decision, Refusal},
};

/// Logins that wait for a verification at one time; further ones are told Server busy. At the 20 to 40 ms that a
/// verification takes, a longer queue would only reach clients that have given up.
const WAITING_MAX: usize = 1_024;

/// The users of one configuration.
pub(super) struct Users {
    by_name: HashMap<Box<str>, Arc<Entry>>,
    /// Client ids that belong to users; nobody else may use them.
    owned_client_ids: HashSet<Box<str>>,
    /// The hash that logins of unknown users are verified against, to no avail.
    decoy: Option<Arc<Entry>>,
    quick: Option<Arc<QuickDigest>>,
    pool: Arc<Pool>,
}

/// One user.
struct Entry {
    hash: PasswordHash,
    /// The hash as configured; tells at a reload whether the password changed.
    phc: Box<str>,
    client_id: Option<Box<str>>,
    rights: u32,
    /// Digest of the password that was verified last.
    verified: Mutex<Option<Digest>>,
}

/// What a CONNECT with a user name brings along.
pub(super) struct Login<'a> {
    pub(super) username: &'a str,
    pub(super) password: Option<Vec<u8>>,
    pub(super) client_id: Arc<str>,
}

impl Users {
    /// Compiles the table. `rights` gives the handle of the user of that name; `before` is the table that this one
    /// replaces: passwords verified there are not verified again unless the hash changed.
    pub(super) fn new(
        users: &[User],
        mut rights: impl FnMut(&str) -> u32,
        before: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        let mut by_name: HashMap<Box<str>, Arc<Entry>> = HashMap::with_capacity(users.len());
        let mut owned_client_ids = HashSet::new();
        for (index, user) in users.iter().enumerate() {
            let problem = |field: &str, problem: String| ConfigError {
                key: format!("users[{index}].{field}"),
                problem,
            };
            check_name(&user.name).map_err(|why| problem("name", why.to_owned()))?;
            if by_name.contains_key(user.name.as_str()) {
                return Err(problem("name", format!("{:?} is given twice", user.name)));
            }
            let hash = PasswordHash::parse(&user.password_hash).map_err(|why| {
                problem(
                    "password_hash",
                    format!("the hash of user {:?} {why}", user.name),
                )
            })?;
            let old = before.and_then(|before| before.by_name.get(user.name.as_str()));
            let verified = old
                .filter(|old| *old.phc == *user.password_hash)
                .and_then(|old| *old.verified.lock());
            let client_id: Option<Box<str>> = Some(user.client_id.as_str())
                .filter(|id| !id.is_empty())
                .map(Box::from);
            owned_client_ids.extend(client_id.clone());
            let entry = Entry {
                hash,
                phc: user.password_hash.as_str().into(),
                client_id,
                rights: rights(&user.name),
                verified: Mutex::new(verified),
            };
            by_name.insert(user.name.as_str().into(), Arc::new(entry));
        }
        // The costliest hash, so that a table with several costs does not make unknown users the quick ones.
        let decoy = by_name
            .values()
            .max_by_key(|entry| entry.hash.work())
            .cloned();
        let quick = match before {
            Some(before) => before.quick.clone(),
            None => QuickDigest::new().map(Arc::new),
        };
        let pool = before.map_or_else(Arc::default, |before| Arc::clone(&before.pool));
        Ok(Self {
            by_name,
            owned_client_ids,
            decoy,
            quick,
            pool,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Whether the client id belongs to a user, so that nobody without that user's password may use it.
    pub(super) fn owns_client_id(&self, client_id: &str) -> bool {
        self.owned_client_ids.contains(client_id)
    }

    /// Judges user name and password. The table must not be empty.
    pub(super) fn login(&self, login: Login<'_>) -> Decision<Result<u32, Refusal>> {
        // Without a password there is nothing to compare, whoever the user is.
        let (Some(password), Some(decoy)) = (login.password, &self.decoy) else {
            return Decision::Ready(Err(bad_user_name_or_password()));
        };
        let digest = self.quick.as_ref().and_then(|quick| quick.of(&password));
        let entry = self.by_name.get(login.username).cloned();
        let binding = match &entry {
            Some(entry) => self.judge_client_id(entry, &login.client_id),
            None => Ok(()),
        };
        if let (Some(entry), Some(digest)) = (&entry, &digest)
            && entry.is_verified(digest)
        {
            return Decision::Ready(binding.map(|()| entry.rights));
        }
        let Some(ticket) = Ticket::take(&self.pool) else {
            return Decision::Ready(Err(busy()));
        };
        let verified_against = Arc::clone(entry.as_ref().unwrap_or(decoy));
        Decision::Later(Box::pin(async move {
            let correct = ticket.verify(verified_against, password).await?;
            match entry {
                Some(entry) if correct => {
                    if let Some(digest) = digest {
                        *entry.verified.lock() = Some(digest);
                    }
                    binding.map(|()| entry.rights)
                }
                _ => Err(bad_user_name_or_password()),
            }
        }))
    }

    /// Judges a user whose name the transport has verified, so that no password is needed; `None` while there are no
    /// users. Once there are some the name must be among them: whoever is taken out is out.
    pub(super) fn vouched(&self, username: &str, client_id: &str) -> Option<Result<u32, Refusal>> {
        if self.is_empty() {
            return None;
        }
        Some(match self.by_name.get(username) {
            Some(entry) => self
                .judge_client_id(entry, client_id)
                .map(|()| entry.rights),
            None => Err(bad_user_name_or_password()),
        })
    }

    /// Only told to those who know the password.
    fn judge_client_id(&self, entry: &Entry, client_id: &str) -> Result<(), Refusal> {
        match &entry.client_id {
            Some(own) if **own == *client_id => Ok(()),
            Some(_) => Err(Refusal {
                reason: ReasonCode::NotAuthorized,
                text: "Not authorized: this user may connect with its own client id only (users.client_id)".into(),
            }),
            None if self.owns_client_id(client_id) => Err(foreign_client_id()),
            None => Ok(()),
        }
    }
}

impl Entry {
    fn is_verified(&self, digest: &Digest) -> bool {
        self.verified
            .lock()
            .as_ref()
            .is_some_and(|verified| same_digest(verified, digest))
    }
}

/// MQTT strings may be long and strange; names that people type are not.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("is empty; clients without a user name have the rights of [anonymous]");
    }
    if name.len() > usize::from(u16::MAX) {
        return Err("is longer than a user name can be (65,535 bytes)");
    }
    if name.chars().any(char::is_control) {
        return Err("contains a control character");
    }
    Ok(())
}

/// 0x86, or return code 4 in MQTT 3. Does not say which of the two was wrong.
fn bad_user_name_or_password() -> Refusal {
    Refusal {
        reason: ReasonCode::BadUserNameOrPassword,
        text: "Bad user name or password".into(),
    }
}

/// 0x85: a client id that belongs to somebody else.
pub(super) fn foreign_client_id() -> Refusal {
    Refusal {
        reason: ReasonCode::ClientIdentifierNotValid,
        text:
            "Client identifier not valid: this client id belongs to another user (users.client_id)"
                .into(),
    }
}

/// 0x89, or return code 3 in MQTT 3.
fn busy() -> Refusal {
    Refusal {
        reason: ReasonCode::ServerBusy,
        text: "Server busy: too many logins at once, try again".into(),
    }
}

/// Bounds on verifications.
struct Pool {
    /// Half of the processors: logins never starve traffic, and each takes megabytes.
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Default for Pool {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            running: Arc::new(Semaphore::new(processors.div_ceil(2))),
            waiting: AtomicUsize::new(0),
        }
    }
}

/// A place in the queue for verifications; given back when dropped, also by a connection that goes away.
struct Ticket {
    pool: Arc<Pool>,
}

impl Ticket {
    fn take(pool: &Arc<Pool>) -> Option<Self> {
        let ticket = Self {
            pool: Arc::clone(pool),
        };
        (pool.waiting.fetch_add(1, Relaxed) < WAITING_MAX).then_some(ticket)
    }

    async fn verify(&self, entry: Arc<Entry>, password: Vec<u8>) -> Result<bool, Refusal> {
        let permit = Arc::clone(&self.pool.running)
            .acquire_owned()
            .await
            .map_err(|_| busy())?;
        let work = move || {
            let correct = entry.hash.verify(&password);
            // Held until the work is done, also when nobody waits for it any more.
            drop(permit);
            correct
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| busy())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pool.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::password::hash_with_cost;
    use super::*;

    fn user(name: &str, password: &str, client_id: &str) -> User {
        let password_hash = hash_with_cost(password.as_bytes(), 8, 1, 1).expect("hash");
        User {
            name: name.into(),
            password_hash,
            client_id: client_id.into(),
            ..User::default()
        }
    }

    fn table(users: &[User]) -> Users {
        let mut next = 0;
        let rights = |_: &str| {
            next += 1;
            next
        };
        Users::new(users, rights, None).unwrap_or_else(|e| panic!("{}: {}", e.key, e.problem))
    }

    fn decide(
        users: &Users,
        name: &str,
        password: &str,
        client_id: &str,
    ) -> Decision<Result<u32, Refusal>> {
        users.login(Login {
            username: name,
            password: Some(password.into()),
            client_id: client_id.into(),
        })
    }

    async fn login(
        users: &Users,
        name: &str,
        password: &str,
        client_id: &str,
    ) -> Result<u32, ReasonCode> {
        let answer = match decide(users, name, password, client_id) {
            Decision::Ready(answer) => answer,
            Decision::Later(answer) => answer.await,
        };
        answer.map_err(|refusal| refusal.reason)
    }

    #[tokio::test]
    async fn the_right_password_gives_the_rights_of_the_user() {
        let users = table(&[user("ann", "one", ""), user("bob", "two", "")]);
        assert_eq!(login(&users, "ann", "one", "x").await, Ok(1));
        assert_eq!(login(&users, "bob", "two", "x").await, Ok(2));
        for (name, password) in [
            ("ann", "two"),
            ("bob", ""),
            ("eve", "one"),
            ("Ann", "one"),
            ("ann ", "one"),
        ] {
            let answer = login(&users, name, password, "x").await;
            assert_eq!(
                answer,
                Err(ReasonCode::BadUserNameOrPassword),
                "{name} {password}"
            );
        }
    }

    #[tokio::test]
    async fn a_password_is_verified_once_and_a_wrong_one_always() {
        let users = table(&[user("ann", "one", "")]);
        assert!(matches!(
            decide(&users, "ann", "one", "x"),
            Decision::Later(_)
        ));
        assert_eq!(login(&users, "ann", "one", "x").await, Ok(1));
        assert!(matches!(
            decide(&users, "ann", "one", "x"),
            Decision::Ready(Ok(1))
        ));
        assert!(matches!(
            decide(&users, "ann", "two", "x"),
            Decision::Later(_)
        ));
        assert_eq!(
            login(&users, "ann", "two", "x").await,
            Err(ReasonCode::BadUserNameOrPassword)
        );
        assert!(matches!(
            decide(&users, "ann", "one", "x"),
            Decision::Ready(Ok(1))
        ));
    }

    #[tokio::test]
    async fn unknown_users_take_the_slow_way_too() {
        let users = table(&[user("ann", "one", "")]);
        assert_eq!(login(&users, "ann", "one", "x").await, Ok(1));
        assert!(matches!(
            decide(&users, "eve", "one", "x"),
            Decision::Later(_)
        ));
        assert_eq!(
            login(&users, "eve", "one", "x").await,
            Err(ReasonCode::BadUserNameOrPassword)
        );
    }

    #[tokio::test]
    async fn no_password_is_refused_whoever_asks() {
        let users = table(&[user("ann", "", "")]);
        for name in ["ann", "eve"] {
            let decision = users.login(Login {
                username: name,
                password: None,
                client_id: "x".into(),
            });
            assert!(matches!(decision, Decision::Ready(Err(_))), "{name}");
        }
        assert_eq!(login(&users, "ann", "", "x").await, Ok(1));
    }

    #[tokio::test]
    async fn client_ids_belong_to_their_users() {
        let users = table(&[user("meter", "one", "meter-7"), user("ann", "two", "")]);
        for _ in 0..2 {
            assert_eq!(login(&users, "meter", "one", "meter-7").await, Ok(1));
            assert_eq!(
                login(&users, "meter", "one", "meter-8").await,
                Err(ReasonCode::NotAuthorized)
            );
            assert_eq!(
                login(&users, "ann", "two", "meter-7").await,
                Err(ReasonCode::ClientIdentifierNotValid)
            );
            assert_eq!(login(&users, "ann", "two", "meter-8").await, Ok(2));
        }
        // Without the password nothing is told about client ids.
        assert_eq!(
            login(&users, "meter", "no", "meter-8").await,
            Err(ReasonCode::BadUserNameOrPassword)
        );
    }

    #[tokio::test]
    async fn a_reload_forgets_a_verified_password_when_its_hash_changed() {
        let (ann, bob) = (user("ann", "one", ""), user("bob", "two", ""));
        let before = table(&[ann.clone(), bob]);
        assert_eq!(login(&before, "ann", "one", "x").await, Ok(1));
        assert_eq!(login(&before, "bob", "two", "x").await, Ok(2));
        let changed = user("bob", "three", "");
        let after = Users::new(&[ann, changed], |_| 7, Some(&before))
            .unwrap_or_else(|e| panic!("{}", e.problem));
        assert!(matches!(
            decide(&after, "ann", "one", "x"),
            Decision::Ready(Ok(7))
        ));
        assert!(matches!(
            decide(&after, "bob", "two", "x"),
            Decision::Later(_)
        ));
        assert_eq!(
            login(&after, "bob", "two", "x").await,
            Err(ReasonCode::BadUserNameOrPassword)
        );
        assert_eq!(login(&after, "bob", "three", "x").await, Ok(7));
    }

    #[tokio::test]
    async fn logins_beyond_the_queue_are_told_busy_and_places_are_given_back() {
        let users = table(&[user("ann", "one", "")]);
        let waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| decide(&users, "ann", "one", "x"))
            .collect();
        assert!(
            waiting
                .iter()
                .all(|decision| matches!(decision, Decision::Later(_)))
        );
        assert_eq!(
            login(&users, "ann", "one", "x").await,
            Err(ReasonCode::ServerBusy)
        );
        drop(waiting);
        assert_eq!(login(&users, "ann", "one", "x").await, Ok(1));
        assert_eq!(users.pool.waiting.load(Relaxed), 0);
    }

    #[test]
    fn mistakes_in_the_table_name_their_key() {
        fn check(users: &[User], key: &str, problem: &str) {
            let error = Users::new(users, |_| 0, None)
                .err()
                .unwrap_or_else(|| panic!("{key} not refused"));
            assert_eq!(error.key, key);
            assert!(error.problem.contains(problem), "{}", error.problem);
        }
        let ann = || user("ann", "one", "");
        check(&[user("", "one", "")], "users[0].name", "is empty");
        check(
            &[user("a\nb", "one", "")],
            "users[0].name",
            "control character",
        );
        check(
            &[user(&"x".repeat(65_536), "one", "")],
            "users[0].name",
            "longer",
        );
        check(&[ann(), ann()], "users[1].name", "\"ann\" is given twice");
        check(
            &[User {
                password_hash: String::new(),
                ..ann()
            }],
            "users[0].password_hash",
            "is missing",
        );
        check(
            &[
                ann(),
                User {
                    name: "bob".into(),
                    password_hash: "secret".into(),
                    ..ann()
                },
            ],
            "users[1].password_hash",
            "the hash of user \"bob\" is not a complete argon2id hash",
        );
    }
}
