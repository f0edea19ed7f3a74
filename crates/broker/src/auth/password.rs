//! Password hashes: argon2id in PHC text form (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`).
//!
//! Deliberately absent: every other scheme. A weaker hash imported from elsewhere stays weak.

use std::fmt;

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version,
    password_hash::{phc, try_generate_salt},
};

/// Memory of one hash, in KiB. The least that the OWASP Password Storage Cheat Sheet recommends for argon2id,
/// so that a login on a small board costs tens of milliseconds, not seconds.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over the memory; of the same recommendation as [`MEMORY_KIB`].
const PASSES: u32 = 2;
/// Lanes; of the same recommendation. Logins run side by side, one lane each.
const LANES: u32 = 1;
/// Most work a configured hash may ask of each login, in KiB times passes: about a second on a small machine.
const WORK_MAX: u64 = 1 << 20;
const _: () = assert!((MEMORY_KIB as u64) * (PASSES as u64) <= WORK_MAX);

/// Why a text is not a password hash that can be used here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PasswordHashError {
    /// The text is empty: the user has no password.
    Missing,
    /// Another scheme, by its name.
    Scheme(String),
    /// Not a complete hash in PHC form.
    Malformed(String),
    /// Memory times passes is above what a login may cost.
    TooExpensive {
        /// Memory, in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
    },
}

impl fmt::Display for PasswordHashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing; `martlet passwd` makes one"),
            Self::Scheme(scheme) => {
                write!(
                    f,
                    "is a {scheme:?} hash, and only argon2id is accepted; `martlet passwd` makes one"
                )
            }
            Self::Malformed(why) => {
                write!(
                    f,
                    "is not a complete argon2id hash ({why}); `martlet passwd` makes one"
                )
            }
            Self::TooExpensive { memory_kib, passes } => write!(
                f,
                "costs {memory_kib} KiB times {passes} passes at each login, and {WORK_MAX} KiB-passes are the most allowed"
            ),
        }
    }
}

impl std::error::Error for PasswordHashError {}

/// Why a password could not be hashed.
#[derive(Debug)]
#[non_exhaustive]
pub enum HashPasswordError {
    /// The operating system gave no random salt.
    Random,
    /// The hash function refused or found no memory.
    Hash(String),
}

impl fmt::Display for HashPasswordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("the operating system gave no random bytes for a salt"),
            Self::Hash(why) => write!(f, "hashing the password failed: {why}"),
        }
    }
}

impl std::error::Error for HashPasswordError {}

/// Hashes `password` with a fresh random salt, for `users.password_hash`. Takes tens of milliseconds and 19 MiB.
///
/// # Errors
/// [`HashPasswordError`] when random bytes or memory are not to be had.
pub fn hash_password(password: &[u8]) -> Result<String, HashPasswordError> {
    hash_with_cost(password, MEMORY_KIB, PASSES, LANES)
}

/// Whether `password` is the one `hash` was made of.
///
/// # Errors
/// [`PasswordHashError`] when `hash` is not a usable argon2id hash.
pub fn verify(password: &[u8], hash: &str) -> Result<bool, PasswordHashError> {
    Ok(PasswordHash::parse(hash)?.verify(password))
}

pub(super) fn hash_with_cost(
    password: &[u8],
    memory_kib: u32,
    passes: u32,
    lanes: u32,
) -> Result<String, HashPasswordError> {
    let hasher = |why: &dyn fmt::Display| HashPasswordError::Hash(why.to_string());
    let params = Params::new(memory_kib, passes, lanes, None).map_err(|e| hasher(&e))?;
    let salt = try_generate_salt().map_err(|_| HashPasswordError::Random)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: phc::PasswordHash = argon2
        .hash_password_with_salt(password, &salt)
        .map_err(|e| hasher(&e))?;
    Ok(hash.to_string())
}

/// A parsed hash whose parameters are within bounds.
#[derive(Clone)]
pub(super) struct PasswordHash {
    hash: phc::PasswordHash,
    work: u64,
}

impl PasswordHash {
    pub(super) fn parse(text: &str) -> Result<Self, PasswordHashError> {
        if text.is_empty() {
            return Err(PasswordHashError::Missing);
        }
        let malformed = |why: &dyn fmt::Display| PasswordHashError::Malformed(why.to_string());
        let hash = phc::PasswordHash::new(text).map_err(|e| malformed(&e))?;
        if hash.algorithm != argon2::ARGON2ID_IDENT {
            return Err(PasswordHashError::Scheme(
                hash.algorithm.as_str().to_owned(),
            ));
        }
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err(malformed(&"salt or hash is missing"));
        }
        let params = Params::try_from(&hash).map_err(|e| malformed(&e))?;
        let (memory_kib, passes) = (params.m_cost(), params.t_cost());
        let work = u64::from(memory_kib) * u64::from(passes);
        if work > WORK_MAX {
            return Err(PasswordHashError::TooExpensive { memory_kib, passes });
        }
        Ok(Self { hash, work })
    }

    /// Slow on purpose: never on a task that serves a connection.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        Argon2::default()
            .verify_password(password, &self.hash)
            .is_ok()
    }

    /// Memory times passes, in KiB-passes: comparable between hashes.
    pub(super) fn work(&self) -> u64 {
        self.work
    }
}

/// A keyed digest of a password that is cheap enough for the task of a connection (microseconds).
///
/// With it a password that was verified once is known again, so that a house full of devices that reconnect
/// after a power cut does not queue for seconds of argon2. The key lives and dies with the process; digests
/// are never written anywhere.
pub(super) struct QuickDigest {
    key: [u8; 16],
}

/// Output of [`QuickDigest`].
pub(super) type Digest = [u8; 32];

impl QuickDigest {
    /// `None` where the operating system gives no random key: then every login takes the slow way.
    pub(super) fn new() -> Option<Self> {
        try_generate_salt().ok().map(|key| Self { key })
    }

    pub(super) fn of(&self, password: &[u8]) -> Option<Digest> {
        // The smallest argon2 there is: 8 KiB, one pass. The key takes the place of the salt.
        let params = Params::new(Params::MIN_M_COST, 1, 1, None).ok()?;
        let mut digest = Digest::default();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password, &self.key, &mut digest)
            .ok()?;
        Some(digest)
    }
}

/// Compares without an early exit.
pub(super) fn same_digest(a: &Digest, b: &Digest) -> bool {
    a.iter()
        .zip(b)
        .fold(0, |difference, (a, b)| difference | (a ^ b))
        == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap(password: &[u8]) -> String {
        hash_with_cost(password, 8, 1, 1).expect("hash")
    }

    #[test]
    fn a_hash_verifies_its_own_password_only() {
        let hash = hash_password(b"correct horse").expect("hash");
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert_eq!(verify(b"correct horse", &hash), Ok(true));
        assert_eq!(verify(b"correct horsf", &hash), Ok(false));
        assert_eq!(verify(b"", &hash), Ok(false));
    }

    #[test]
    fn passwords_are_bytes_and_salts_are_fresh() {
        let password = [0, 0xFF, 0x80, b'\n'];
        let (one, two) = (cheap(&password), cheap(&password));
        assert_ne!(one, two);
        assert_eq!(verify(&password, &one), Ok(true));
        assert_eq!(verify(&password, &two), Ok(true));
        assert_eq!(verify(b"", &cheap(b"")), Ok(true));
    }

    #[test]
    fn the_parameters_of_the_hash_are_used() {
        let hash = hash_with_cost(b"p", 64, 3, 2).expect("hash");
        assert!(hash.contains("m=64,t=3,p=2"), "{hash}");
        assert_eq!(verify(b"p", &hash), Ok(true));
    }

    #[test]
    fn unusable_hashes_are_refused_by_reason() {
        fn check(text: &str, expected: &str) {
            let problem = PasswordHash::parse(text)
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default();
            assert!(
                problem.contains(expected),
                "{text:?} gives {problem:?}, wanted {expected:?}"
            );
        }
        check("", "is missing");
        check("hunter2", "not a complete argon2id hash");
        check("$argon2id", "not a complete argon2id hash");
        check("$argon2id$v=19$m=19456,t=2,p=1", "salt or hash is missing");
        check(
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ",
            "salt or hash is missing",
        );
        check(
            "$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$RWFzdGVyIGVnZyBoYXNo",
            "\"argon2i\" hash",
        );
        check(
            "$pbkdf2-sha512$i=1000$c29tZXNhbHQ$RWFzdGVyIGVnZyBoYXNo",
            "\"pbkdf2-sha512\" hash",
        );
        check(
            "$argon2id$v=19$m=4194304,t=3,p=1$c29tZXNhbHQ$RWFzdGVyIGVnZyBoYXNo",
            "4194304 KiB times 3 passes",
        );
        check(
            "$argon2id$v=19$m=1,t=1,p=1$c29tZXNhbHQ$RWFzdGVyIGVnZyBoYXNo",
            "not a complete argon2id hash",
        );
    }

    #[test]
    fn the_quick_digest_depends_on_password_and_key() {
        let (one, two) = (
            QuickDigest::new().expect("random"),
            QuickDigest::new().expect("random"),
        );
        let digest = |key: &QuickDigest, password: &[u8]| key.of(password).expect("digest");
        assert!(same_digest(&digest(&one, b"a"), &digest(&one, b"a")));
        assert!(!same_digest(&digest(&one, b"a"), &digest(&one, b"b")));
        assert!(!same_digest(&digest(&one, b"a"), &digest(&two, b"a")));
        assert!(!same_digest(&digest(&one, b""), &digest(&one, b"\0")));
    }
}
