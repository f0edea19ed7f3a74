//! Golden messages, precedence of the layers, and the round trip of what is printed.

use std::path::PathBuf;

use martlet_codec::QoS;

use super::{Format, Inputs, KeyPath, PrintOptions, Settings, load, parse};

fn refused(text: &str) -> String {
    match parse("m.toml", text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(problems) => problems.to_string(),
    }
}

fn check(text: &str, message: &str) {
    assert_eq!(refused(text), message.trim_matches('\n'), "\nfor:\n{text}");
}

#[test]
fn unknown_keys_are_refused_with_place_and_likely_spelling() {
    check(
        "[limits]\n  conections_max = 10\n",
        r"
error: m.toml:2:3: unknown key `conections_max` in [limits]
  |
2 |   conections_max = 10
  |   ^^^^^^^^^^^^^^
  help: did you mean `connections_max`?",
    );
    check(
        "[limts]\nconnections_max = 10\n",
        r"
error: m.toml:1:2: unknown key `limts` at the top level
  |
1 | [limts]
  |  ^^^^^
  help: did you mean `limits`?",
    );
    check(
        "receive_maximum = 10\n",
        r"
error: m.toml:1:1: unknown key `receive_maximum` at the top level
  |
1 | receive_maximum = 10
  | ^^^^^^^^^^^^^^^
  help: `receive_maximum` belongs in [mqtt]",
    );
    check(
        "password_file = 'x'\n",
        r"
error: m.toml:1:1: unknown key `password_file` at the top level
  |
1 | password_file = (hidden)
  | ^^^^^^^^^^^^^
  help: list users as [[users]]; `martlet passwd NAME` prints the lines",
    );
    check(
        "[[listeners]]\nurl = 'tcp://[::1]:1883'\nnodely = true\n",
        r"
error: m.toml:3:1: unknown key `nodely` in [listeners[0]]
  |
3 | nodely = true
  | ^^^^^^
  help: did you mean `nodelay`?",
    );
}

#[test]
fn wrong_values_are_refused_with_place_and_what_is_possible() {
    check(
        "[mqtt]\nreceive_maximum = 70000 # many\n",
        r"
error: m.toml:2:19: `mqtt.receive_maximum` is 70000, but must be a whole number from 0 to 65535
  |
2 | receive_maximum = 70000 # many
  |                   ^^^^^",
    );
    check(
        "[mqtt]\nretain_available = 'yes'\n",
        r#"
error: m.toml:2:20: `mqtt.retain_available` is the text "yes", but must be true or false
  |
2 | retain_available = 'yes'
  |                    ^^^^^"#,
    );
    check(
        "limits.queue_overflow = 'drop-oldest'\n",
        r#"
error: m.toml:1:25: `limits.queue_overflow` is "drop-oldest", which is none of "drop_oldest", "drop_newest", "disconnect"
  |
1 | limits.queue_overflow = 'drop-oldest'
  |                         ^^^^^^^^^^^^^
  help: did you mean "drop_oldest"?"#,
    );
    check(
        "[limits]\nconnect_timeout = 10\n",
        r#"
error: m.toml:2:19: `limits.connect_timeout`: 10 has no unit; write "10s" or "10ms"
  |
2 | connect_timeout = 10
  |                   ^^"#,
    );
    check(
        "[mqtt]\nmaximum_packet_size = '5M'\n",
        r#"
error: m.toml:2:23: `mqtt.maximum_packet_size`: `5M` has an unknown unit; write "5MiB"
  |
2 | maximum_packet_size = '5M'
  |                       ^^^^"#,
    );
    check(
        "[users]\nname = 'a'\n",
        r"
error: m.toml:1:1: `users` is a table, but must be an array
  |
1 | [users]
  | ^^^^^^^
  help: write [[users]], with two brackets on each side",
    );
}

#[test]
fn broken_toml_is_refused_with_place() {
    let message = refused("[mqtt\nreceive_maximum = 1\n");
    assert!(
        message.starts_with("error: m.toml:1:6: not TOML: "),
        "{message}"
    );
    let message = refused("[mqtt]\nreceive_maximum = 1\nreceive_maximum = 2\n");
    assert!(
        message.starts_with("error: m.toml:3:1: not TOML: "),
        "{message}"
    );
}

#[test]
fn meaning_is_checked_with_place() {
    check(
        "[[listeners]]\nid = 'a'\nurl = 'tcp://127.0.0.1:1883'\n[[listeners]]\nid = 'a'\nurl = 'ws://127.0.0.1:8083'\n",
        r#"
error: m.toml:5:6: `listeners[1].id` is "a", which is the id of listeners[0]
  |
5 | id = 'a'
  |      ^^^"#,
    );
    check(
        "[mqtt]\nreceive_maximum = 0\n",
        r"
error: m.toml:2:19: `mqtt.receive_maximum` is 0, but must be at least 1
  |
2 | receive_maximum = 0
  |                   ^",
    );
    check(
        "[anonymous.rights]\nsubscribe = ['a/#', 'b#']\n",
        r#"
error: m.toml:2:21: `anonymous.rights.subscribe[1]` is "b#", which is no topic filter: '#' must fill a whole level [MQTT-4.7.1-1]
  |
2 | subscribe = ['a/#', 'b#']
  |                     ^^^^"#,
    );
    check(
        "[[users]]\nname = 'ada'\npassword_hash = 'secret'\n",
        r"
error: m.toml:3:17: `users[0].password_hash` is not an argon2id hash (those begin with `$argon2id$`)
  |
3 | password_hash = (hidden)
  |                 ^^^^^^^^
  help: `martlet passwd NAME` prints the line to put here",
    );
    #[cfg(not(feature = "rocksdb"))]
    check(
        "[storage]\nbackend = 'rocksdb'\n",
        r#"
error: m.toml:2:11: `storage.backend` is "rocksdb", which this build does not contain
  |
2 | backend = 'rocksdb'
  |           ^^^^^^^^^
  help: write backend = "embedded" to keep everything in a directory, or "memory": sessions, queues and retained messages then end with the process"#,
    );
    check(
        "[log]\nlevel = 'inof'\n",
        r#"
error: m.toml:2:9: `log.level` has "inof", which is none of off, error, warn, info, debug, trace
  |
2 | level = 'inof'
  |         ^^^^^^
  help: did you mean "info"?"#,
    );
}

#[test]
fn every_mistake_has_a_check() {
    let check = |text: &str, part: &str| {
        let message = refused(text);
        assert!(message.contains(part), "{part} is not in:\n{message}");
    };
    check("listeners = []", "`listeners` is empty");
    check("[[listeners]]\nid = 'x'", "`listeners[0]` has no url");
    check(
        "[[listeners]]\nurl = 'tls://0.0.0.0:8883'",
        "needs a certificate and its key",
    );
    let tls = "[[listeners]]\nurl = 'tls://a:1'\ntls.cert = 'c'\ntls.key = 'k'\n";
    check(
        "[[listeners]]\nurl = 'tcp://a:1'\ntls.cert = 'c'",
        "has no meaning for tcp://",
    );
    check(
        &format!("{tls}tls.client_cert = 'required'"),
        "set tls.client_ca",
    );
    check(
        &format!("{tls}tls.client_crl = 'x'"),
        "of no use while clients show no certificate",
    );
    check(
        &format!("{tls}identity = 'cn'"),
        "needs client certificates",
    );
    check(
        &format!("{tls}[[listeners.tls.sni]]\ncert = 'x'"),
        "needs both cert and key",
    );
    let tcp = "[[listeners]]\nurl = 'tcp://a:1'\n";
    let unix = "[[listeners]]\nurl = 'unix:///run/a'\n";
    check(&format!("{tcp}allow = ['x']"), "is no network");
    check(
        &format!("{tcp}proxy_protocol = true"),
        "set trusted_proxies",
    );
    check(&format!("{tcp}identity = 'unix_user'"), "unix:// only");
    check(&format!("{tcp}unix.mode = '600'"), "unix:// only");
    check(
        &format!("{tcp}websocket.origins = ['https://a']"),
        "ws:// and wss:// only",
    );
    check(
        "[[listeners]]\nurl = 'ws://a:1'\nwebsocket.origins = ['https://a/']",
        "no origin",
    );
    check(&format!("{unix}unix.mode = '888'"), "no set of permissions");
    check(&format!("{unix}interface = 'x'"), "no meaning for unix://");
    check(&format!("{unix}{unix}"), "as listeners[0] does");
    let quic = tls.replace("tls://", "quic://");
    check(
        &format!("{quic}proxy_protocol = true\ntrusted_proxies = ['::1']"),
        "no meaning for quic://",
    );
    check(&format!("{tls}tls.min_version = '1.1'"), "\"1.2\", \"1.3\"");
    check(
        "[[listeners]]\nurl = 'tcp://a:1'\n[[listeners]]\nurl = 'ws://a:1'",
        "listens on a:1, as listeners[0] does",
    );
    check(
        "[[listeners]]\nurl = 'tcp://a:1'\nid = 'a b'",
        "letters, digits",
    );
    check(
        "[[listeners]]\nurl = 'tcp://a:1'\nbacklog = 0",
        "`listeners[0].backlog` is 0",
    );
    check("mqtt.minimum_protocol_level = 2", "from 3 to 5");
    check("mqtt.maximum_packet_size = 1", "from 64 to 268435460");
    check("mqtt.maximum_qos = 3", "3 is not a QoS");
    check("mqtt.session_expiry_max_secs = -1", "-1");
    check(
        "mqtt.response_information = 'a/+'",
        "`mqtt.response_information` must begin topic names",
    );
    check("limits.connections_max = 0", "at least 1");
    check("limits.connect_timeout = '0s'", "longer than 0");
    check(
        "limits.slow_consumer_timeout = '99999d'",
        "longer than 3650d",
    );
    check("limits.client_id_bytes_max = 22", "from 23 to 65535");
    check("limits.topic_bytes_max = 100000", "from 1 to 65535");
    check("limits.inflight_max = 0", "at least 1");
    check("sys.interval = '10ms'", "shorter than 1s");
    check("sys.save_interval = '999ms'", "write \"0s\" to save none");
    check("users = [{ password_hash = '' }]", "has no name");
    check("users = [{ name = 'a' }]", "has no password_hash");
    check(
        "users = [{ name = 'a' }, { name = 'a' }]",
        "is the name of users[0] as well",
    );
    check(
        "users = [{ name = 'a', password_hash = '$argon2id$v=19$m=8,t=1,p=1' }]",
        "not a complete argon2id hash",
    );
    check(
        "users = [{ name = 'a', rights.publish = [''] }]",
        "`users[0].rights.publish[0]`",
    );
    check(
        "anonymous.rights.subscribe = ['$share/g/a']",
        "is a shared subscription",
    );
    check("mqtt.queue_qos0 = 1979-05-27", "a date or time");
    check("limits.connections_max = 1.5", "the number 1.5");
    check("limits.connections_max = 99999999999999999999", "too large");
    check("log = 5", "`log` is 5, but must be a table");
}

#[test]
fn all_mistakes_are_told_at_once_in_their_order() {
    let message = refused(
        "[sys]\nintervall = '1s'\n[mqtt]\nreceive_maximum = 0\nfoo = 1\n[limits]\nsessions_max = 'x'\n",
    );
    let places: Vec<&str> = message
        .lines()
        .filter_map(|line| line.strip_prefix("error: m.toml:")?.split(": ").next())
        .collect();
    assert_eq!(places, ["2:1", "4:19", "5:1", "7:16"], "{message}");
}

fn env(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn later_layers_win_and_origins_are_known() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("m.toml");
    std::fs::write(
        &file,
        "[limits]\nconnections_max = 1\nsessions_max = 1\ninflight_max = 1\ntopic_levels_max = 7\n",
    )
    .expect("written");
    let inputs = Inputs {
        file: Some(file.clone()),
        environment: vec![
            env("MARTLET_LIMITS__SESSIONS_MAX", "2"),
            env("MARTLET_LIMITS__INFLIGHT_MAX", "2"),
            env("MARTLET_MQTT__MAXIMUM_QOS", "1"),
            env("MARTLET_MQTT__RESPONSE_INFORMATION", "007"),
            env("MARTLET_MQTT__MAXIMUM_PACKET_SIZE", "1MiB"),
            env("MARTLET_ANONYMOUS__ALLOW", "yes"),
            env("MARTLET_ANONYMOUS__RIGHTS__PUBLISH", "a/#, b"),
            env("MARTLET_PORT_1883_TCP_ADDR", "10.0.0.1"),
            env("PATH", "/bin"),
        ],
        sets: vec![
            "limits.inflight_max=3".to_owned(),
            "anonymous.rights.subscribe=[\"c\", 'd']".to_owned(),
        ],
        flags: vec![(
            "log.level".to_owned(),
            "debug".to_owned(),
            "--log-level debug".to_owned(),
        )],
        listen: vec![
            "tcp://127.0.0.1:0".to_owned(),
            "tcp://127.0.0.1:0".to_owned(),
        ],
        ..Inputs::default()
    };
    let loaded = load(&inputs).unwrap_or_else(|problems| panic!("{problems}"));
    let Settings { program, broker } = &loaded.settings;
    let limits = &broker.limits;
    assert_eq!(
        (
            limits.connections_max,
            limits.sessions_max,
            limits.inflight_max
        ),
        (1, 2, 3)
    );
    assert_eq!(broker.mqtt.maximum_qos, QoS::AtLeastOnce);
    assert_eq!(broker.mqtt.response_information, "007");
    assert_eq!(broker.mqtt.maximum_packet_size, 1 << 20);
    assert_eq!(broker.anonymous.allow, Some(true));
    assert_eq!(broker.anonymous.rights.publish, ["a/#", "b"]);
    assert_eq!(broker.anonymous.rights.subscribe, ["c", "d"]);
    assert_eq!(program.log.level, "debug");
    assert_eq!(program.listeners.len(), 2);
    let origin = |key: &str| loaded.origin(&KeyPath::parse(key));
    assert_eq!(
        origin("limits.connections_max"),
        format!("{}:2", file.display())
    );
    assert_eq!(
        origin("limits.sessions_max"),
        "env MARTLET_LIMITS__SESSIONS_MAX"
    );
    assert_eq!(
        origin("limits.inflight_max"),
        "flag --set limits.inflight_max=3"
    );
    assert_eq!(origin("log.level"), "flag --log-level debug");
    assert_eq!(
        origin("listeners[1].url"),
        "flag --listen tcp://127.0.0.1:0"
    );
    assert_eq!(origin("listeners[1].backlog"), "default");
    assert_eq!(origin("limits.topic_bytes_max"), "default");
}

#[test]
fn mistakes_in_variables_and_flags_name_them() {
    let check = |inputs: Inputs, message: &str| {
        let problems = load(&inputs).expect_err("refused");
        assert_eq!(problems.to_string(), message);
    };
    check(
        Inputs {
            environment: vec![env("MARTLET_LIMITS__CONECTIONS_MAX", "1")],
            ..Inputs::default()
        },
        "error: environment variable MARTLET_LIMITS__CONECTIONS_MAX: unknown key `conections_max` in [limits]\n  \
         help: did you mean `MARTLET_LIMITS__CONNECTIONS_MAX`?",
    );
    check(
        Inputs {
            environment: vec![env("MARTLET_LOG_LEVEL", "debug")],
            ..Inputs::default()
        },
        "error: environment variable MARTLET_LOG_LEVEL: unknown key `log_level` at the top level\n  \
         help: did you mean `MARTLET_LOG__LEVEL`?",
    );
    check(
        Inputs {
            environment: vec![env("MARTLET_LIMITS__CONNECTIONS_MAX", "many")],
            ..Inputs::default()
        },
        "error: environment variable MARTLET_LIMITS__CONNECTIONS_MAX: `limits.connections_max` is the text \"many\", \
         but must be a whole number from 0",
    );
    check(
        Inputs {
            sets: vec!["limits".to_owned()],
            ..Inputs::default()
        },
        "error: --set limits: no `=` in it\n  help: write --set section.key=value",
    );
    check(
        Inputs {
            sets: vec!["sys.intervall=1s".to_owned()],
            ..Inputs::default()
        },
        "error: --set sys.intervall=1s: unknown key `intervall` in [sys]\n  help: did you mean `interval`?",
    );
    check(
        Inputs {
            listen: vec!["localhost".to_owned()],
            ..Inputs::default()
        },
        "error: --listen localhost: `listeners[0].url` is wrong: `localhost` is not an address: the scheme is missing: \
         write tcp://localhost or ws://localhost",
    );
    check(
        Inputs {
            file: Some(PathBuf::from("/nonexistent/m.toml")),
            ..Inputs::default()
        },
        "error: /nonexistent/m.toml: cannot be read: No such file or directory (os error 2)",
    );
}

#[test]
fn what_is_printed_is_read_back() {
    let text = r#"
        pid_file = "/run/m.pid"
        [mqtt]
        session_expiry_max_secs = 60
        maximum_packet_size = 1000
        [[listeners]]
        url = "tcp://127.0.0.1:0"
        [anonymous]
        allow = false
        [[users]]
        name = "a\"\u0001ß"
        password_hash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$5Ht+zCJjrLmHQlYSTwBmPFUM1aX5yRWqNsGOgX6mSKM"
        rights.publish = ["a"]
        rights.deny_subscribe = []
    "#;
    let loaded = parse("m.toml", text).unwrap_or_else(|problems| panic!("{problems}"));
    for origins in [false, true] {
        let options = PrintOptions {
            origins,
            secrets: true,
            format: Format::Toml,
        };
        let printed = loaded.print(options);
        let again = parse("printed.toml", &printed)
            .unwrap_or_else(|problems| panic!("{problems}\n{printed}"));
        assert_eq!(again.settings, loaded.settings, "{printed}");
    }
    let shown = loaded.print(PrintOptions::default());
    assert!(
        !shown.contains("argon2id") && shown.contains("password_hash = \"(hidden)\""),
        "{shown}"
    );
    let json = loaded.print(PrintOptions {
        format: Format::Json,
        origins: true,
        secrets: false,
    });
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["mqtt"]["session_expiry_max_secs"]["value"], 60);
    assert_eq!(
        json["mqtt"]["session_expiry_max_secs"]["origin"],
        "m.toml:4"
    );
    assert_eq!(json["mqtt"]["receive_maximum"]["origin"], "default");
}

#[test]
fn changes_are_named() {
    let parsed = |text| parse("m", text).unwrap_or_else(|problems| panic!("{problems}"));
    let (old, new) = (
        parsed(""),
        parsed("limits.inflight_max = 5\nlog.level = 'warn'\nanonymous.allow = true\n"),
    );
    assert_eq!(
        old.changed_keys(&new),
        ["anonymous.allow", "limits.inflight_max", "log.level"]
    );
    assert!(old.changed_keys(&old).is_empty());
}
