//! A private Redis server for the broker to keep its data in, killed like the broker itself and started again on its files.
//!
//! Deliberately absent: what a machine without power makes of its files; `appendfsync always` is its own promise.

use super::random::Random;
use crate::Error;
use crate::interop::process::Running;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take; the log of writes is read in it.
const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// The server. Dropping it kills it.
pub(super) struct Redis {
    folder: PathBuf,
    pub(super) port: u16,
    process: Option<Running>,
}

impl Redis {
    /// Starts one with its files in `folder`.
    pub(super) fn start(folder: &Path) -> Result<Self, Error> {
        let folder = folder.join("redis");
        fs::create_dir_all(&folder)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut server = Self {
            folder,
            port,
            process: None,
        };
        server.run()?;
        Ok(server)
    }

    fn run(&mut self) -> Result<(), Error> {
        let log = self.folder.join("log");
        let output = File::create(&log)?;
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "yes"])
            // Its log is read at every start: a short one, and rewriting is killed as well.
            .args(["--auto-aof-rewrite-min-size", "2mb"])
            .args(["--appendfsync", "always", "--dir"])
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| format!("cannot start redis-server: {error}"))?;
        let mut process = Running::new(child);
        let begin = Instant::now();
        // It accepts before it has read its files; only its log says that it is ready.
        while !fs::read_to_string(&log)?.contains("Ready to accept connections") {
            if process.ended()?.is_some() || begin.elapsed() > READY_TIMEOUT {
                let said = super::program::tail(&log);
                return Err(format!("redis-server did not start: {said}").into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.process = Some(process);
        Ok(())
    }

    /// SIGKILL, a moment without it, and a start on what it left.
    pub(super) fn kill(&mut self, random: &mut Random) -> Result<(), Error> {
        self.process = None;
        std::thread::sleep(Duration::from_millis(random.below(150)));
        self.run()
    }

    /// Where the broker finds it.
    pub(super) fn url(&self) -> String {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        format!("redis://{address}")
    }
}
