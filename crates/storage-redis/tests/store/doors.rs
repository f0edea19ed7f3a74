//! Users, passwords, databases and TLS.

use martlet_storage::Storage as _;
use martlet_storage_redis::{OpenError, RedisOptions};

use crate::support::{Server, free_port, put};

fn parse(url: &str) -> RedisOptions {
    RedisOptions::parse(url).expect("is an address")
}

#[test]
fn users_passwords_and_databases() {
    let Some(server) = Server::start(&["--user", "ada", "on", ">secret", "~{martlet}:*", "+@all"])
    else {
        return;
    };
    let port = server.port;
    let ada = parse(&format!("redis://ada@127.0.0.1:{port}/3"));
    let storage = ada.password("secret").open().expect("opens");
    storage.apply(&[put(b"k", b"1")]).expect("applies");
    drop(storage);
    let here: u32 = server.ask(&["DBSIZE"]);
    assert_eq!(here, 0, "it is in database 3");
    let again = parse(&format!("redis://ada:secret@127.0.0.1:{port}/3"));
    assert!(!again.open().expect("opens").created());
    let check = |url: &str| {
        let error = parse(url).open().map(|_| ()).expect_err(url);
        let words = error.to_string();
        assert!(matches!(error, OpenError::Server { .. }), "{words}");
        assert!(!words.contains("wrong"), "{words}");
    };
    check(&format!("redis://ada:wrong@127.0.0.1:{port}/3"));
    check(&format!(
        "redis://ada:secret@127.0.0.1:{port}/3?prefix=no-right-to"
    ));
    check(&format!("redis://127.0.0.1:{}", free_port()));
}

#[test]
fn tls_with_an_authority_of_ones_own() {
    let files = tempfile::tempdir().expect("a directory");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let cert = files.path().join("cert.pem");
    let key = files.path().join("key.pem");
    std::fs::write(&cert, made.cert.pem()).expect("writes");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("writes");
    let [cert, key] = [cert, key].map(|path| path.display().to_string());
    let tls = free_port();
    let Some(_server) = Server::start(&[
        "--tls-port",
        &tls.to_string(),
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &cert,
        "--tls-auth-clients",
        "no",
    ]) else {
        return;
    };
    let url = format!("rediss://127.0.0.1:{tls}");
    let storage = parse(&format!("{url}?ca={cert}")).open().expect("opens");
    storage.apply(&[put(b"k", b"1")]).expect("applies");
    drop(storage);
    let stranger = parse(&url).open().map(|_| ());
    assert!(
        matches!(stranger, Err(OpenError::Server { .. })),
        "a certificate of nobody is refused: {stranger:?}"
    );
    let missing = parse(&format!("{url}?ca=/none.pem")).open().map(|_| ());
    assert!(matches!(missing, Err(OpenError::File { .. })));
}
