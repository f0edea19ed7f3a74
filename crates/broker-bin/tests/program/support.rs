//! Runs the real program: in a directory of its own, without variables of ours, with a deadline for everything.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest wait for anything. Never a measure: a test that needs it has failed.
const DEADLINE: Duration = Duration::from_mins(1);

/// An empty directory.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// The program, to be run in `directory`.
pub(crate) fn martlet(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_martlet"));
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .env("NO_COLOR", "1");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MARTLET_") {
            command.env_remove(name);
        }
    }
    command
}

/// What a program that ended wrote, and its exit code.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    run_with_input(command, b"")
}

/// Runs a command to its end with something on standard input.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A program that ends early does not read everything.
        let _ = stdin.write_all(&input);
    });
    let (sender, receiver) = channel();
    let id = child.id();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(DEADLINE) {
        Ok(output) => {
            writer.join().expect("written");
            output.expect("output").into()
        }
        Err(_) => {
            signal(id, "KILL");
            panic!("{command:?} did not end");
        }
    }
}

/// Sends a signal by name.
pub(crate) fn signal(process: u32, name: &str) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(process.to_string())
        .status()
        .expect("kill");
    assert!(status.success(), "kill -{name} {process}");
}

/// A running program whose standard error stream is read line by line.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    /// Lines seen so far.
    pub(crate) seen: Vec<String>,
}

impl Running {
    /// Starts a command.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line that contains `part`.
    pub(crate) fn line(&mut self, part: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line with {part:?} among:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end; the rest of what it wrote is in `seen`.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child") {
                while let Ok(line) = self.lines.recv() {
                    self.seen.push(line);
                }
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it did not end; it said:\n{}", self.seen.join("\n"));
    }

    /// Waits for the end and gives what it wrote on standard output.
    pub(crate) fn output(&mut self) -> (Option<i32>, String) {
        let mut stdout = self.child.stdout.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stdout.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let status = self.end();
        (status.code(), reader.join().expect("read"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing to do for one that ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A broker on free ports of this machine.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) tcp: u16,
    pub(crate) ws: u16,
    pub(crate) directory: TempDir,
}

impl Server {
    /// Starts one with these further arguments.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(directory(), args)
    }

    /// Starts one in a directory.
    pub(crate) fn start_in(directory: TempDir, args: &[&str]) -> Self {
        let mut command = martlet(directory.path());
        command
            .args([
                "--listen",
                "tcp://127.0.0.1:0",
                "--listen",
                "ws://127.0.0.1:0/mqtt",
            ])
            .args(args);
        let mut running = Running::start(&mut command);
        let tcp = port(&running.line("id=tcp-0 url=tcp://127.0.0.1:"));
        let ws = port(&running.line("id=ws-0 url=ws://127.0.0.1:"));
        running.line("ready");
        Self {
            running,
            tcp,
            ws,
            directory,
        }
    }

    /// `martlet NAME -p PORT`, to be run against this broker.
    pub(crate) fn client(&self, name: &str, args: &[&str]) -> Command {
        let mut command = martlet(self.directory.path());
        command
            .arg(name)
            .arg("-p")
            .arg(self.tcp.to_string())
            .args(args);
        command
    }

    /// A subscriber whose subscription stands.
    pub(crate) fn subscriber(&self, args: &[&str]) -> Running {
        let mut subscriber = Running::start(self.client("sub", args).arg("-d"));
        subscriber.line("subscribed to ");
        subscriber
    }
}

/// The port in `listening id=... url=...`.
fn port(line: &str) -> u16 {
    let after = line.rsplit(':').next().unwrap_or_default();
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a port")
}
