//! Sockets that a service manager has bound before the program runs.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use crate::support::{Running, directory, martlet};

/// CONNECT of MQTT 3.1.1 with the client id `c`, and what answers it.
const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c";
const CONNACK: &[u8] = b"\x20\x02\x00\x00";

/// The program with `socket` as its file descriptor 3, as a service manager starts it.
fn activated(directory: &std::path::Path, socket: OwnedFd, args: &[&str]) -> Command {
    let program = martlet(directory);
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(script)
        .arg(program.get_program())
        .args(args)
        .current_dir(directory)
        .stdin(Stdio::from(socket));
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

#[test]
fn a_socket_that_was_handed_over_is_served_and_not_bound_again() {
    let directory = directory();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = socket.local_addr().expect("bound");
    // It comes before the program is there.
    let mut early = TcpStream::connect(at).expect("the kernel holds it");
    early.write_all(CONNECT).expect("sent");
    let url = format!("tcp://{at}");
    let mut broker = Running::start(&mut activated(
        directory.path(),
        socket.into(),
        &["--listen", &url],
    ));
    broker.line(&format!("url={url}"));
    broker.line("ready");
    let mut answer = [0; 4];
    early.read_exact(&mut answer).expect("answered");
    assert_eq!(answer, CONNACK);
    broker.signal("TERM");
    assert_eq!(broker.end().code(), Some(0));
}

#[test]
fn the_file_of_a_unix_socket_stays_with_whoever_made_it() {
    let directory = directory();
    let path = directory.path().join("socket");
    let socket = UnixListener::bind(&path).expect("bound");
    let url = format!("unix://{}", path.display());
    let mut broker = Running::start(&mut activated(
        directory.path(),
        socket.into(),
        &["--listen", &url],
    ));
    broker.line("ready");
    let mut client = UnixStream::connect(&path).expect("reachable");
    client.write_all(CONNECT).expect("sent");
    let mut answer = [0; 4];
    client.read_exact(&mut answer).expect("answered");
    assert_eq!(answer, CONNACK);
    broker.signal("TERM");
    assert_eq!(broker.end().code(), Some(0));
    assert!(path.exists());
}

#[test]
fn a_socket_that_no_listener_has_is_named() {
    let directory = directory();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("tcp://{}", socket.local_addr().expect("bound"));
    let mut broker = Running::start(&mut activated(
        directory.path(),
        socket.into(),
        &["--listen", "tcp://127.0.0.1:0"],
    ));
    let line = broker.line("which is none of the listeners");
    assert!(line.contains(&url), "{line}");
    broker.line("ready");
}
