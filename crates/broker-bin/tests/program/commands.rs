//! `martlet check`, `passwd`, `--help` and `--version` as processes.

use crate::support::{Server, directory, martlet, run, run_with_input};

#[test]
fn check_prints_values_and_origins() {
    let directory = directory();
    std::fs::write(
        directory.path().join("martlet.toml"),
        "[limits]\nsessions_max = 7\n",
    )
    .expect("written");
    let ended = run(martlet(directory.path())
        .env("MARTLET_MQTT__MAXIMUM_QOS", "1")
        .args(["check", "--print", "--origins", "--set", "sys.interval=1m"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let has = |key: &str, value: &str, origin: &str| {
        let line = ended
            .out
            .lines()
            .find(|line| line.starts_with(&format!("{key} = ")))
            .unwrap_or_default();
        assert!(
            line.contains(value) && line.ends_with(&format!("# {origin}")),
            "{line}"
        );
    };
    has("sessions_max", "7", "martlet.toml:2");
    has("maximum_qos", "1", "env MARTLET_MQTT__MAXIMUM_QOS");
    has("interval", "\"1m\"", "flag --set sys.interval=1m");
    has("inflight_max", "1000", "default");

    // What is printed is a configuration with the same effect.
    std::fs::write(directory.path().join("again.toml"), &ended.out).expect("written");
    let plain = |args: &[&str]| run(martlet(directory.path()).arg("check").args(args)).out;
    let again = plain(&["--print", "--config", "again.toml"]);
    let direct = run(martlet(directory.path())
        .env("MARTLET_MQTT__MAXIMUM_QOS", "1")
        .args(["check", "--print", "--set", "sys.interval=1m"]));
    assert_eq!(again, direct.out);
}

#[test]
fn a_user_needs_a_name() {
    let directory = directory();
    let ended = run(martlet(directory.path()).args(["passwd", "-b", "x", ""]));
    assert_eq!((ended.code, &*ended.out), (Some(1), ""), "{ended:?}");
    assert!(ended.err.contains("name is empty"), "{}", ended.err);
}

#[test]
fn check_ends_with_what_it_found() {
    let directory = directory();
    let check = |args: &[&str], code: i32, part: &str| {
        let ended = run(martlet(directory.path()).arg("check").args(args));
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.err.contains(part), "{part} is not in {}", ended.err);
    };
    check(&[], 0, "can be used");
    check(&[], 0, "note: only programs on this machine can connect");
    check(
        &["--listen", "tcp://0.0.0.0:1883"],
        0,
        "note: clients of tcp://0.0.0.0:1883 will be refused",
    );
    check(
        &["--config", "missing.toml"],
        1,
        "missing.toml: cannot be read",
    );
    check(
        &["--set", "limits.inflight_max=0"],
        1,
        "--set limits.inflight_max=0: `limits.inflight_max` is 0",
    );
    check(&["--origins"], 2, "--print");
    if cfg!(not(feature = "rocksdb")) {
        check(
            &["--set", "storage.backend=rocksdb"],
            1,
            "which this build does not contain",
        );
    }
    std::fs::write(directory.path().join("bin.toml"), b"a = 1\nb = \"\xff\"\n").expect("written");
    check(&["--config", "bin.toml"], 1, "bin.toml:2:6: not UTF-8");
    std::fs::create_dir(directory.path().join("martlet.toml")).expect("created");
    check(&[], 1, "martlet.toml: cannot be read");
}

#[test]
fn a_user_made_by_passwd_can_log_in() {
    let directory = directory();
    let ended = run_with_input(
        martlet(directory.path()).args(["passwd", "ada", "--stdin"]),
        b"s3cret\n",
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    std::fs::write(directory.path().join("martlet.toml"), &ended.out).expect("written");
    let mut server = Server::start_in(directory, &[]);
    let login = |args: &[&str]| run(server.client("pub", &["-t", "a", "-m", "x"]).args(args));
    assert_eq!(login(&["-u", "ada", "-P", "s3cret"]).code, Some(0));
    let refused = login(&["-u", "ada", "-P", "wrong"]);
    assert!(matches!(refused.code, Some(134 | 135)), "{refused:?}");
    assert!(
        refused.err.contains("refused the connection"),
        "{}",
        refused.err
    );
    assert!(matches!(
        login(&["-u", "ada", "-P", "wrong", "-V", "311"]).code,
        Some(4 | 5)
    ));
    assert_eq!(login(&[]).code, Some(135));
    // Failed logins never show the password.
    server.running.signal("TERM");
    server.running.end();
    assert!(
        !server
            .running
            .seen
            .iter()
            .any(|line| line.contains("s3cret") || line.contains("wrong"))
    );
}

#[test]
fn passwd_prints_a_hash_or_says_why_not() {
    let directory = directory();
    let passwd = |args: &[&str], input: &[u8]| {
        run_with_input(martlet(directory.path()).arg("passwd").args(args), input)
    };
    assert!(passwd(&["-b", "x"], b"").out.starts_with("$argon2id$v=19$"));
    assert!(passwd(&[], b"piped\n").out.starts_with("$argon2id$v=19$"));
    let empty = passwd(&["--stdin"], b"\n");
    assert_eq!((empty.code, empty.out.as_str()), (Some(1), ""));
    assert!(empty.err.contains("the password is empty"));
}

#[test]
fn help_and_version_go_to_standard_output() {
    let directory = directory();
    let help = run(martlet(directory.path()).arg("--help"));
    assert_eq!(help.code, Some(0));
    for command in ["serve", "check", "passwd", "init", "pub", "sub", "rr"] {
        assert!(
            help.out.contains(&format!("\n  {command} ")),
            "{command} is not in {}",
            help.out
        );
        let own = run(martlet(directory.path()).args([command, "--help"]));
        assert_eq!(own.code, Some(0), "{own:?}");
        let is_client = matches!(command, "pub" | "sub" | "rr");
        assert_eq!(own.out.contains("--cafile"), is_client, "{command}");
    }
    let version = run(martlet(directory.path()).arg("--version"));
    assert_eq!(
        version.out,
        concat!("martlet ", env!("CARGO_PKG_VERSION"), "\n")
    );
    let wrong = run(martlet(directory.path()).arg("--lissten"));
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("--listen"), "{}", wrong.err);
}

/// What `.cargo/config.toml` says to the build of the allocator.
#[test]
#[cfg(unix)]
fn pages_that_nobody_uses_go_back_to_the_system_within_five_seconds() {
    let directory = directory();
    let ended = run(martlet(directory.path())
        .env("_RJEM_MALLOC_CONF", "confirm_conf:true")
        .arg("--version"));
    for setting in ["dirty_decay_ms:5000", "background_thread:true"] {
        assert!(ended.err.contains(setting), "{setting}: {ended:?}");
    }
}
