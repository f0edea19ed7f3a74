//! A certificate from a small authority that runs here, proved each way, renewed under a TLS listener that serves it; and
//! what is said when it cannot be had.

mod authority;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use authority::Authority;
use martlet_acme::{AcmeError, Challenge, Keeper, Settings};
use martlet_transport::{
    CertificateFiles, ConnectOptions, Listener, ListenerOptions, Stream, TlsClientOptions,
    TlsOptions, connect,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const DAY: Duration = Duration::from_hours(24);

/// An authority, a place for what it gives out, and a port where it looks.
struct Ground {
    folder: TempDir,
    authority: Arc<Authority>,
    settings: Settings,
}

impl Ground {
    async fn new(challenge: Challenge) -> Self {
        let folder = TempDir::new().unwrap();
        let listen = free_port();
        let authority = Authority::start(folder.path(), listen, 1_000).await;
        let settings = Settings {
            directory: authority.directory.clone(),
            root: Some(folder.path().join("authority.pem")),
            domains: vec!["mqtt.example".into(), "localhost".into()],
            contact: vec!["mailto:nobody@mqtt.example".into()],
            agrees_to_terms: true,
            challenge,
            listen,
            folder: folder.path().join("acme"),
        };
        Self {
            folder,
            authority,
            settings,
        }
    }

    fn keeper(&self) -> Keeper {
        Keeper::new(self.settings.clone()).unwrap()
    }
}

/// A port of this machine that was free a moment ago.
fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn listener_options(certificate: &Path) -> ListenerOptions {
    ListenerOptions {
        tls: TlsOptions {
            certificates: vec![CertificateFiles {
                certificate: certificate.into(),
                key: certificate.into(),
            }],
            ..TlsOptions::default()
        },
        ..ListenerOptions::default()
    }
}

async fn meet(listener: &mut Listener, ca: PathBuf) -> (Stream, Stream) {
    let options = ConnectOptions {
        tls: TlsClientOptions {
            ca: Some(ca),
            ..TlsClientOptions::default()
        },
        ..ConnectOptions::default()
    };
    let address = format!("tls://localhost:{}", listener.local_addr().port());
    let address = address.parse().unwrap();
    let (client, server) = tokio::join!(connect(&address, &options), async {
        listener.accept().await.unwrap().establish().await
    });
    (client.unwrap(), server.unwrap().stream)
}

#[tokio::test]
async fn a_certificate_is_obtained_and_serves() {
    for challenge in [Challenge::Http01, Challenge::TlsAlpn01] {
        let ground = Ground::new(challenge).await;
        let keeper = ground.keeper();
        assert!(!keeper.has_certificate());
        assert_eq!(keeper.due(), SystemTime::UNIX_EPOCH, "at once");
        keeper.renew().await.unwrap();
        assert!(keeper.has_certificate());
        let in_days = keeper.due().duration_since(SystemTime::now()).unwrap();
        assert!((59 * DAY..61 * DAY).contains(&in_days), "{in_days:?}");

        let options = listener_options(&keeper.certificate());
        let address = "tls://127.0.0.1:0".parse().unwrap();
        let mut listener = Listener::bind(&address, &options).await.unwrap();
        let ca = ground.folder.path().join("authority.pem");
        meet(&mut listener, ca).await;
        std::net::TcpListener::bind(ground.settings.listen).expect("its door is closed again");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_kept_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let ground = Ground::new(Challenge::Http01).await;
    ground.keeper().renew().await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&ground.settings.folder), 0o700);
    for entry in std::fs::read_dir(&ground.settings.folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn a_renewal_disturbs_nobody() {
    let ground = Ground::new(Challenge::Http01).await;
    // The first certificate is due when it comes; the one after it is not for weeks.
    ground.authority.next_lives(60 * DAY, 10 * DAY);
    let keeper = ground.keeper();
    keeper.renew().await.unwrap();
    assert!(keeper.due() < SystemTime::now());
    let options = listener_options(&keeper.certificate());
    let address = "tls://127.0.0.1:0".parse().unwrap();
    let mut listener = Listener::bind(&address, &options).await.unwrap();
    let certificates = listener.certificates().unwrap();
    let before = certificates.not_after();
    let ca = ground.folder.path().join("authority.pem");
    let (mut client, mut server) = meet(&mut listener, ca.clone()).await;

    let keeping = tokio::spawn(async move { keeper.keep().await });
    while !matches!(certificates.reload_if_changed(), Some(Ok(()))) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(certificates.not_after() > before);
    meet(&mut listener, ca).await;
    // Whoever was there stays.
    client.write_all(b"still").await.unwrap();
    client.flush().await.unwrap();
    let mut read = [0; 5];
    server.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still");
    keeping.abort();
    assert_eq!(ground.authority.issued(), 2);
    assert_eq!(ground.authority.accounts(), 1, "the account is used again");
}

#[tokio::test]
async fn other_names_are_another_certificate() {
    let mut ground = Ground::new(Challenge::TlsAlpn01).await;
    ground.keeper().renew().await.unwrap();
    ground.settings.domains.push("other.example".into());
    let keeper = ground.keeper();
    assert!(!keeper.has_certificate());
    keeper.renew().await.unwrap();
    assert!(keeper.has_certificate());
    // A file that makes no sense is like none.
    std::fs::write(keeper.certificate(), "nonsense").unwrap();
    std::fs::write(ground.settings.folder.join("account.json"), "nonsense").unwrap();
    assert!(!keeper.has_certificate());
    keeper.renew().await.unwrap();
    assert_eq!(ground.authority.accounts(), 2);
}

#[tokio::test]
async fn an_account_that_the_authority_forgot_is_made_anew() {
    let ground = Ground::new(Challenge::Http01).await;
    let keeper = ground.keeper();
    keeper.renew().await.unwrap();
    ground.authority.forget_accounts();
    keeper.renew().await.unwrap();
    keeper.renew().await.unwrap();
    assert_eq!(ground.authority.issued(), 3);
    assert_eq!(ground.authority.accounts(), 1, "the new one is kept");
}

/// What is said when the settings are changed so, and that the certificate stays.
async fn complains(change: impl FnOnce(&mut Settings), is_it: impl FnOnce(&AcmeError) -> bool) {
    let mut ground = Ground::new(Challenge::Http01).await;
    ground.keeper().renew().await.unwrap();
    let before = std::fs::read(ground.keeper().certificate()).unwrap();
    change(&mut ground.settings);
    let error = ground.keeper().renew().await.unwrap_err();
    assert!(is_it(&error), "{error}");
    assert_eq!(
        std::fs::read(ground.keeper().certificate()).unwrap(),
        before
    );
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_named() {
    complains(
        |settings| settings.listen = free_port(),
        |error| match error {
            AcmeError::Refused { domain, reason, .. } => {
                domain == "localhost" && reason.contains("localhost: ")
            }
            _ => false,
        },
    )
    .await;
}

#[tokio::test]
async fn a_name_that_is_refused_after_a_while_is_named() {
    complains(
        |settings| {
            settings.listen = free_port();
            // The authority looks at the first name when it has answered, at the others before.
            settings.domains.truncate(1);
        },
        |error| matches!(error, AcmeError::Refused { domain, .. } if domain == "mqtt.example"),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_says_nothing_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = TempDir::new().unwrap();
    let keeper = Keeper::new(Settings {
        directory: format!("https://{}/directory", silent.local_addr().unwrap()),
        root: None,
        domains: vec!["mqtt.example".into()],
        contact: Vec::new(),
        agrees_to_terms: true,
        challenge: Challenge::Http01,
        listen: free_port(),
        folder: folder.path().join("acme"),
    })
    .unwrap();
    let error = keeper.renew().await.unwrap_err().to_string();
    assert!(error.ends_with("nothing came of it in 300 s"), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    complains(
        |settings| settings.listen = address,
        |error| {
            error
                .to_string()
                .starts_with(&format!("cannot listen on {address}"))
        },
    )
    .await;
}

#[tokio::test]
async fn an_authority_that_is_not_there_is_named() {
    let nobody = format!("https://{}/directory", free_port());
    let words = nobody.clone();
    complains(
        |settings| settings.directory = nobody,
        |error| error.to_string().starts_with(&words),
    )
    .await;
}

#[tokio::test]
async fn terms_must_be_agreed_to() {
    let mut ground = Ground::new(Challenge::Http01).await;
    ground.settings.agrees_to_terms = false;
    let error = ground.keeper().renew().await.unwrap_err().to_string();
    assert!(error.contains("the terms were not agreed to"), "{error}");
}
