//! The program with certificates by ACME, from an authority that the tests run themselves.

#[cfg(feature = "acme")]
#[path = "../../../acme/tests/authority/mod.rs"]
#[expect(dead_code, reason = "its other users need the rest")]
mod authority;

use std::fs;

use crate::support::{directory, martlet, run};

/// What a configuration says that wants a certificate from `directory`, proved on `listen`.
fn config(directory: &str, challenge: &str, listen: &str) -> String {
    format!(
        "[acme]\ndomains = ['localhost']\nagree_to_terms = true\ndirectory = '{directory}'\n\
         ca = 'authority.pem'\nchallenge = '{challenge}'\nlisten = '{listen}'\n\
         [storage]\nbackend = 'memory'\n\
         [[listeners]]\nurl = 'tls://127.0.0.1:0'\n\
         tls.cert = 'martlet-acme/certificate.pem'\ntls.key = 'martlet-acme/certificate.pem'\n"
    )
}

#[cfg(not(feature = "acme"))]
#[test]
fn a_build_that_cannot_says_so() {
    let directory = directory();
    let text = config("https://127.0.0.1:1/directory", "http-01", "127.0.0.1:0");
    fs::write(directory.path().join("martlet.toml"), text).expect("written");
    for command in ["check", "serve"] {
        let ended = run(martlet(directory.path()).arg(command));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("(feature acme)"), "{ended:?}");
    }
}

#[cfg(feature = "acme")]
mod with_authority {
    use std::net::{SocketAddr, TcpListener};
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use tempfile::TempDir;
    use tokio::runtime::Runtime;

    use super::authority::Authority;
    use super::{config, directory, fs, martlet, run};
    use crate::support::Running;

    const DAY: Duration = Duration::from_hours(24);

    /// An authority that takes so many orders, and a directory with a configuration that wants a certificate from it.
    struct Ground {
        runtime: Runtime,
        authority: Arc<Authority>,
        directory: TempDir,
    }

    impl Ground {
        fn new(challenge: &str, orders: usize) -> Self {
            let (runtime, directory) = (Runtime::new().expect("a runtime"), directory());
            let listen = free_port();
            let authority = runtime.block_on(Authority::start(directory.path(), listen, orders));
            let text = config(&authority.directory, challenge, &listen.to_string());
            fs::write(directory.path().join("martlet.toml"), text).expect("written");
            Self {
                runtime,
                authority,
                directory,
            }
        }
    }

    /// A port of this machine that was free a moment ago.
    fn free_port() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address")
    }

    /// The program, and the port of its listener, when it is ready.
    fn started(directory: &Path) -> (Running, String) {
        let mut running = Running::start(&mut martlet(directory));
        let line = running.line("url=tls://127.0.0.1:");
        let after = line.rsplit(':').next().unwrap_or_default();
        let port = after.chars().take_while(char::is_ascii_digit).collect();
        running.line("ready");
        (running, port)
    }

    fn publish(directory: &Path, port: &str, text: &str) {
        let words = "pub -h localhost --cafile authority.pem -t a -q 1 -m";
        let mut command = martlet(directory);
        let ended = run(command.args(words.split(' ')).args([text, "-p", port]));
        assert_eq!(ended.code, Some(0), "{text}: {ended:?}");
    }

    #[test]
    fn certificates_come_before_the_listeners_and_change_behind_them() {
        for challenge in ["http-01", "tls-alpn-01"] {
            let ground = Ground::new(challenge, 1);
            let (authority, root) = (&ground.authority, ground.directory.path());
            // Both are due as soon as they are there; the second order waits at the authority.
            authority.next_lives(60 * DAY, 10 * DAY);
            authority.next_lives(60 * DAY, 11 * DAY);
            let checked = run(martlet(root).arg("check"));
            assert_eq!(checked.code, Some(0), "{checked:?}");
            assert_eq!(authority.issued(), 0);

            let (mut broker, port) = started(root);
            assert_eq!(authority.issued(), 1);
            let words = "sub -h localhost --cafile authority.pem -t a -d -C 2 -p";
            let mut subscriber = Running::start(martlet(root).args(words.split(' ')).arg(&port));
            subscriber.line("subscribed to ");
            publish(root, &port, "before");
            authority.orders.add_permits(1);
            broker.line("a certificate for localhost was obtained");
            broker.line("uses new certificates; connections go on");
            publish(root, &port, "after");
            let (code, output) = subscriber.output();
            assert_eq!((code, output.as_str()), (Some(0), "before\nafter\n"));
            assert_eq!((authority.issued(), authority.accounts()), (2, 1));
            broker.signal("TERM");
            broker.end();

            // The authority is no more: what there is goes on being used.
            ground.runtime.shutdown_background();
            let kept = fs::read(root.join("martlet-acme/certificate.pem")).expect("is there");
            let (mut broker, port) = started(root);
            if !broker
                .seen
                .iter()
                .any(|line| line.contains("no new certificate"))
            {
                broker.line("no new certificate for localhost: https://127.0.0.1:");
            }
            publish(root, &port, "still");
            let after = fs::read(root.join("martlet-acme/certificate.pem")).expect("is there");
            assert_eq!(kept, after);
        }
    }

    #[test]
    fn without_a_first_certificate_nothing_is_opened() {
        let ground = Ground::new("http-01", 0);
        let root = ground.directory.path();
        let mut waiting = Running::start(&mut martlet(root));
        waiting.line("asking for the first certificate");
        waiting.signal("TERM");
        waiting.end();
        let said = waiting.seen.join("\n");
        assert!(!said.contains("listening"), "{said}");

        let text = config(
            &format!("https://{}/directory", free_port()),
            "http-01",
            "127.0.0.1:0",
        );
        fs::write(root.join("martlet.toml"), text).expect("written");
        let ended = run(&mut martlet(root));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            ended.err.contains("error: [acme]: https://127.0.0.1:"),
            "{ended:?}"
        );
    }
}
