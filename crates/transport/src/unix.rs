//! Unix sockets: a file with mode and owner, a stale one taken over, and who is at the other end.

use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// Largest user or group file that is read.
const NAMES_BYTES_MAX: u64 = 4 << 20;

/// The file of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixOptions {
    /// Who may connect, as file permissions: writing is connecting. Default 0o660.
    pub mode: u32,
    /// The user who owns it, by name or number. Default: whoever runs the process.
    pub owner: Option<String>,
    /// Its group, by name or number. Default: that of the process.
    pub group: Option<String>,
}

impl Default for UnixOptions {
    fn default() -> Self {
        Self {
            mode: 0o660,
            owner: None,
            group: None,
        }
    }
}

/// A listening socket that takes its file away when it is dropped.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    pub(crate) listener: UnixListener,
    /// Its file and the number of that; `None` where it belongs to whoever bound it.
    file: Option<(PathBuf, u64)>,
}

impl UnixSocket {
    /// Binds `path`. What a broker that is gone left there is removed; anything else is not.
    pub(crate) fn bind(path: &Path, backlog: u32, options: &UnixOptions) -> io::Result<Self> {
        let owner = options
            .owner
            .as_deref()
            .map(|name| id_of(name, "/etc/passwd"));
        let group = options
            .group
            .as_deref()
            .map(|name| id_of(name, "/etc/group"));
        let (owner, group) = (owner.transpose()?, group.transpose()?);
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let bound = Self::finish(&socket, path, backlog, options.mode, owner, group);
        if bound.is_err() {
            // Ours, and of no use.
            let _ = fs::remove_file(path);
        }
        let inode = bound?;
        let listener = UnixListener::from_std(socket.into())?;
        Ok(Self {
            listener,
            file: Some((path.to_owned(), inode)),
        })
    }

    /// Takes a listening socket over.
    pub(crate) fn inherit(socket: StdUnixListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            listener: UnixListener::from_std(socket)?,
            file: None,
        })
    }

    /// Nobody can connect before `listen`, so that mode and owner are right from the first moment.
    fn finish(
        socket: &Socket,
        path: &Path,
        backlog: u32,
        mode: u32,
        owner: Option<u32>,
        group: Option<u32>,
    ) -> io::Result<u64> {
        if owner.is_some() || group.is_some() {
            std::os::unix::fs::chown(path, owner, group)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(fs::metadata(path)?.ino())
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let Some((path, inode)) = &self.file else {
            return;
        };
        // Somebody else's by now, perhaps.
        if fs::symlink_metadata(path).is_ok_and(|file| file.ino() == *inode) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes way where a socket file is left of a process that listens no more.
fn remove_stale(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file of this name that is no socket",
        ));
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// The number of a user or group, which may be given as a number.
fn id_of(name: &str, file: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let found = lines(file)?
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())
        })
        .flatten();
    found.ok_or_else(|| {
        let reason = format!("`{name}` is not in {file}: name another, or write its number");
        io::Error::new(io::ErrorKind::NotFound, reason)
    })
}

/// The name of a user, or its number where it has none.
pub(crate) fn user_name(uid: u32) -> String {
    let number = uid.to_string();
    let name = lines("/etc/passwd").ok().and_then(|text| {
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1) == Some(number.as_str())).then(|| name.to_owned())
        })
    });
    name.unwrap_or(number)
}

fn lines(file: &str) -> io::Result<String> {
    let mut text = String::new();
    let reader = io::Read::take(fs::File::open(file)?, NAMES_BYTES_MAX);
    io::Read::read_to_string(&mut io::BufReader::new(reader), &mut text)?;
    Ok(text)
}
