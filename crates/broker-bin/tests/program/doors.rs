//! TLS, QUIC and Unix sockets as users meet them: made by `martlet init`, served by `martlet`, used by our clients and by
//! other people's programs, which are passed over by name where they are missing.
#![expect(clippy::print_stderr, reason = "what is passed over is named")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Ended, Running, directory, martlet, run, run_with_input};

/// A broker on `tls://` (client certificates are optional and stand for the user name), `wss://`, `quic://` and
/// `unix://`, in a directory with the certificates in `certs`.
struct Secure {
    directory: tempfile::TempDir,
    running: Running,
    tls: u16,
    wss: u16,
    quic: u16,
}

impl Secure {
    fn start() -> Self {
        let directory = directory();
        let made = run(martlet(directory.path()).args(["init", "--tls", "--client", "ada"]));
        assert_eq!(made.code, Some(0), "{made:?}");
        assert!(
            made.err
                .contains("mosquitto_pub -h localhost -p 8883 --cafile "),
            "{made:?}"
        );
        let files = "tls.cert = 'certs/server.pem'\ntls.key = 'certs/server.key'\n";
        let listener = |url: &str| format!("[[listeners]]\nurl = '{url}'\n{files}");
        let socket = directory.path().join("socket");
        let config = [
            listener("tls://127.0.0.1:0"),
            "tls.client_cert = 'optional'\ntls.client_ca = 'certs/ca.pem'\nidentity = 'cn'\n"
                .into(),
            listener("wss://127.0.0.1:0/mqtt"),
            listener("quic://127.0.0.1:0"),
            format!("[[listeners]]\nurl = 'unix://{}'\n", socket.display()),
            "[storage]\nbackend = 'memory'\n".into(),
        ]
        .concat();
        fs::write(directory.path().join("martlet.toml"), config).expect("written");
        let check = run(martlet(directory.path()).arg("check"));
        assert_eq!(check.code, Some(0), "{check:?}");
        let mut running = Running::start(&mut martlet(directory.path()));
        let mut port = |scheme: &str| {
            let line = running.line(&format!("url={scheme}://127.0.0.1:"));
            let after = line.rsplit(':').next().unwrap_or_default();
            let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().expect("a port")
        };
        let (tls, wss, quic) = (port("tls"), port("wss"), port("quic"));
        running.line("url=unix:///");
        running.line("ready");
        Self {
            directory,
            running,
            tls,
            wss,
            quic,
        }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn martlet(&self, args: &[&str]) -> Command {
        let mut command = martlet(self.directory.path());
        command.args(args);
        command
    }

    /// A subscriber of ours through the Unix socket.
    fn subscriber(&self, count: &str) -> Running {
        let socket = self.path("socket");
        let mut command = self.martlet(&["sub", "--unix", &socket, "-t", "a", "-d", "-C", count]);
        let mut subscriber = Running::start(&mut command);
        subscriber.line("subscribed to ");
        subscriber
    }
}

#[test]
fn the_load_generator_comes_in_by_every_door() {
    let secure = Secure::start();
    let ca = secure.path("certs/ca.pem");
    let stranger = directory();
    let made = run(martlet(stranger.path()).args(["init", "--tls"]));
    assert_eq!(made.code, Some(0), "{made:?}");
    for url in [
        format!("tls://localhost:{}", secure.tls),
        format!("wss://localhost:{}", secure.wss),
        format!("quic://localhost:{}", secure.quic),
    ] {
        let bench = |authorities: &str| {
            let arguments = "bench pairs --publishers 3 --qos 2 --count 100 --json --url";
            let arguments: Vec<&str> = arguments.split(' ').collect();
            let mut command = secure.martlet(&arguments);
            run(command.args([&url, "--cafile", authorities]))
        };
        let ended = bench(&ca);
        assert_eq!(ended.code, Some(0), "{url}: {ended:?}");
        let report: Value = serde_json::from_str(&ended.out).expect("a report");
        assert_eq!(report["figures"]["delivered"], 300.0, "{url}: {report}");
        let ended = bench(&stranger.path().join("certs/ca.pem").display().to_string());
        assert_eq!(ended.code, Some(1), "{url}: {ended:?}");
        assert!(ended.err.contains("cannot connect to "), "{url}: {ended:?}");
    }
}

/// Whether a program is installed; says so if not.
fn there_is(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--help")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

#[test]
fn our_clients_come_in_by_every_door() {
    let secure = Secure::start();
    let mut subscriber = secure.subscriber("5");
    let ca = secure.path("certs/ca.pem");
    let tls = secure.tls.to_string();
    let (cert, key) = (secure.path("certs/ada.pem"), secure.path("certs/ada.key"));
    assert!(!Path::new(&cert).exists(), "the file is called client.pem");
    let (cert, key) = (
        cert.replace("ada.pem", "client.pem"),
        key.replace("ada.key", "client.key"),
    );
    let wss = format!("wss://localhost:{}/mqtt", secure.wss);
    let quic = format!("quic://localhost:{}", secure.quic);
    let mtls = ["--cert", &cert, "--key", &key];
    for (name, door) in [
        ("tls", [&["-p", &tls, "-h", "localhost"][..], &[]].concat()),
        ("mtls", [&["-p", &tls][..], &mtls].concat()),
        ("wss", vec!["-L", &wss]),
        ("quic", vec!["-L", &quic]),
    ] {
        let mut command =
            secure.martlet(&["pub", "--cafile", &ca, "-q", "1", "-t", "a", "-m", name]);
        let published = run(command.args(door));
        assert_eq!(published.code, Some(0), "{name}: {published:?}");
    }
    let socket = secure.path("socket");
    let published = run(&mut secure.martlet(&["pub", "--unix", &socket, "-t", "a", "-m", "unix"]));
    assert_eq!(published.code, Some(0), "{published:?}");
    let (code, output) = subscriber.output();
    assert_eq!(
        (code, output.as_str()),
        (Some(0), "tls\nmtls\nwss\nquic\nunix\n")
    );

    // Nobody of whom we do not know the authority.
    let stranger = run(&mut secure.martlet(&["pub", "--tls", "-p", &tls, "-t", "a", "-m", "x"]));
    assert_eq!(stranger.code, Some(1), "{stranger:?}");
    let plain = run(&mut secure.martlet(&["pub", "-p", &tls, "-t", "a", "-m", "x"]));
    assert_eq!(plain.code, Some(1), "{plain:?}");
}

#[test]
fn mosquitto_clients_come_in_over_tls() {
    if !there_is("mosquitto_pub") {
        return;
    }
    let secure = Secure::start();
    let mut subscriber = secure.subscriber("6");
    let ca = secure.path("certs/ca.pem");
    let (cert, key) = (
        secure.path("certs/client.pem"),
        secure.path("certs/client.key"),
    );
    let port = secure.tls.to_string();
    let publish = |args: &[&str]| -> Ended {
        let mut command = Command::new("mosquitto_pub");
        command
            .args(["-h", "localhost", "-p", &port, "--cafile", &ca])
            .args(["-t", "a"])
            .args(args);
        run(&mut command)
    };
    for (qos, version) in [("0", "mqttv311"), ("1", "mqttv5"), ("2", "mqttv31")] {
        let text = format!("{version} {qos}");
        let published = publish(&["-q", qos, "-V", version, "-m", &text]);
        assert_eq!(published.code, Some(0), "{published:?}");
    }
    let published = publish(&["--tls-version", "tlsv1.2", "-m", "tls 1.2"]);
    assert_eq!(published.code, Some(0), "{published:?}");
    let published = publish(&["--tls-alpn", "mqtt", "-m", "alpn"]);
    assert_eq!(published.code, Some(0), "{published:?}");
    let published = publish(&["--cert", &cert, "--key", &key, "-m", "mtls"]);
    assert_eq!(published.code, Some(0), "{published:?}");
    let (code, output) = subscriber.output();
    let expected = "mqttv311 0\nmqttv5 1\nmqttv31 2\ntls 1.2\nalpn\nmtls\n";
    assert_eq!((code, output.as_str()), (Some(0), expected));
    let wrong = publish(&["--tls-alpn", "h2", "-m", "x"]);
    assert_ne!(wrong.code, Some(0), "{wrong:?}");
}

#[test]
fn openssl_verifies_the_chain_and_resumes() {
    if !there_is("openssl") {
        return;
    }
    let secure = Secure::start();
    let ca = secure.path("certs/ca.pem");
    let at = format!("localhost:{}", secure.tls);
    let client = |args: &[&str]| {
        let mut command = Command::new("openssl");
        command
            .args([
                "s_client",
                "-connect",
                &at,
                "-CAfile",
                &ca,
                "-verify_return_error",
            ])
            .args(args);
        // A PINGREQ is no CONNECT: the broker ends the connection, and openssl with it.
        let ended = run_with_input(&mut command, b"\xC0\0");
        format!("{}{}", ended.out, ended.err)
    };
    let text = client(&["-tls1_3", "-alpn", "mqtt"]);
    assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
    assert!(text.contains("ALPN protocol: mqtt"), "{text}");
    let session = secure.path("session");
    let text = client(&["-tls1_2", "-sess_out", &session]);
    assert!(text.contains("New, TLSv1.2"), "{text}");
    let text = client(&["-tls1_2", "-sess_in", &session]);
    assert!(text.contains("Reused, TLSv1.2"), "{text}");
    let text = client(&["-tls1_1"]);
    assert!(text.contains("no peer certificate available"), "{text}");
}

#[test]
fn curl_upgrades_over_tls() {
    if !there_is("curl") {
        return;
    }
    let secure = Secure::start();
    let url = format!("https://localhost:{}/mqtt", secure.wss);
    let mut child = Command::new("curl")
        .args([
            "--silent",
            "--include",
            "--no-buffer",
            "--http1.1",
            "--max-time",
            "20",
        ])
        .args(["--cacert", &secure.path("certs/ca.pem")])
        .args(["-H", "Connection: Upgrade", "-H", "Upgrade: websocket"])
        .args([
            "-H",
            "Sec-WebSocket-Version: 13",
            "-H",
            "Sec-WebSocket-Protocol: mqtt",
        ])
        .args(["-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", &url])
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    let accept = lines
        .map_while(Result::ok)
        .find(|line| line.starts_with("Sec-WebSocket-Accept"));
    // It would wait for what comes next.
    child.kill().expect("running");
    child.wait().expect("ended");
    assert_eq!(first.trim_end(), "HTTP/1.1 101 Switching Protocols");
    assert!(accept.is_some_and(|line| line.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
}

#[test]
fn new_certificates_are_taken_over_and_broken_ones_are_not() {
    let mut secure = Secure::start();
    let server = secure.path("certs/server.pem");
    let good = fs::read(&server).expect("there");
    fs::File::create(&server)
        .and_then(|mut file| file.write_all(b"broken"))
        .expect("written");
    secure.running.signal("HUP");
    let line = secure.running.line("stay as they were");
    assert!(line.contains("server.pem"), "{line}");
    let ca = secure.path("certs/ca.pem");
    let port = secure.tls.to_string();
    let publish = ["pub", "--cafile", &ca, "-p", &port, "-t", "a", "-m", "x"];
    let published = run(&mut secure.martlet(&publish));
    assert_eq!(published.code, Some(0), "{published:?}");
    fs::write(&server, good).expect("written");
    secure.running.signal("HUP");
    secure.running.line("certificates read again");
    let published = run(&mut secure.martlet(&publish));
    assert_eq!(published.code, Some(0), "{published:?}");
}

#[test]
fn what_cannot_be_used_is_told_by_listener_and_file() {
    let directory = directory();
    fs::write(directory.path().join("cert.pem"), "nothing").expect("written");
    let args = [
        "--listen",
        "tls://127.0.0.1:0",
        "--tls-cert",
        "cert.pem",
        "--tls-key",
        "k",
    ];
    for command in ["check", "serve"] {
        let ended = run(martlet(directory.path()).arg(command).args(args));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for part in ["listener tls-0", "cert.pem", "contains no certificate"] {
            assert!(ended.err.contains(part), "{command}: {ended:?}");
        }
    }
}
