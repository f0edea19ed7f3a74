//! `martlet passwd`: the hash of a password, and the lines that add a user to the configuration.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use martlet_broker::auth::hash_password;

use crate::args::PasswdArgs;
use crate::output;
use crate::serve::signals::Signals;

/// Longest password that MQTT can carry, in bytes.
const PASSWORD_BYTES_MAX: usize = 65_535;

/// Runs the command.
pub fn run(args: &PasswdArgs) -> ExitCode {
    let named = match args.name.as_deref() {
        Some("") => Err("the user name is empty".to_owned()),
        _ => read_password(args),
    };
    let hashed = named.and_then(|password| {
        check(&password)?;
        hash_password(password.as_bytes()).map_err(|error| error.to_string())
    });
    match hashed {
        Ok(hash) => output::stdout(lines(args.name.as_deref(), &hash).as_bytes()),
        Err(error) => {
            output::stderr_line(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn check(password: &str) -> Result<(), String> {
    if password.is_empty() {
        return Err("the password is empty".to_owned());
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(format!(
            "the password is longer than {PASSWORD_BYTES_MAX} bytes, more than MQTT can carry"
        ));
    }
    Ok(())
}

/// What is printed: the hash alone, or a table to append to the configuration.
fn lines(name: Option<&str>, hash: &str) -> String {
    let Some(name) = name else {
        return format!("{hash}\n");
    };
    format!(
        "\n[[users]]\nname = {}\npassword_hash = \"{hash}\"\n# What this user may do; these are the defaults:\n\
         # rights.publish = [\"#\"]\n# rights.subscribe = [\"#\", \"$SYS/#\"]\n",
        toml::Value::String(name.to_owned())
    )
}

fn read_password(args: &PasswdArgs) -> Result<String, String> {
    if let Some(password) = &args.password {
        return Ok(password.clone());
    }
    let stdin = io::stdin();
    if args.stdin || !stdin.is_terminal() {
        return first_line(&mut stdin.lock()).map_err(|error| format!("standard input: {error}"));
    }
    let ask = |prompt: &str| ask(prompt).map_err(|error| format!("terminal: {error}"));
    let password = ask("Password: ")?;
    check(&password)?;
    if ask("Again: ")? == password {
        Ok(password)
    } else {
        Err("the two passwords differ".to_owned())
    }
}

/// The first line without its end.
fn first_line(input: &mut dyn io::BufRead) -> io::Result<String> {
    let mut line = String::new();
    // Two bytes more than allowed: enough to notice that it is too long.
    input
        .take(PASSWORD_BYTES_MAX as u64 + 2)
        .read_line(&mut line)?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}

/// Asks on the terminal; what is typed does not appear.
fn ask(prompt: &str) -> io::Result<String> {
    let stdin = io::stdin();
    let mut stderr = io::stderr();
    stderr.write_all(prompt.as_bytes())?;
    stderr.flush()?;
    let echo = EchoOff::new();
    let line = first_line(&mut stdin.lock());
    drop(echo);
    stderr.write_all(b"\n")?;
    line
}

/// A terminal that shows nothing of what is typed, until dropped or until a signal ends the process.
#[cfg(unix)]
struct EchoOff(Option<rustix::termios::Termios>);

#[cfg(unix)]
impl EchoOff {
    fn new() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let stdin = rustix::stdio::stdin();
        let Ok(before) = tcgetattr(stdin) else {
            return Self(None);
        };
        restore_at_signal(before.clone());
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        match tcsetattr(stdin, OptionalActions::Flush, &silent) {
            Ok(()) => Self(Some(before)),
            Err(_) => Self(None),
        }
    }
}

#[cfg(unix)]
impl Drop for EchoOff {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            restore(before);
        }
    }
}

#[cfg(unix)]
fn restore(before: &rustix::termios::Termios) {
    // Nothing better is left to do where the terminal is gone.
    let _ = rustix::termios::tcsetattr(
        rustix::stdio::stdin(),
        rustix::termios::OptionalActions::Flush,
        before,
    );
}

/// Ctrl-C at the prompt must not leave a shell that shows nothing.
#[cfg(unix)]
fn restore_at_signal(before: rustix::termios::Termios) {
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            return;
        };
        let signal = runtime.block_on(async { Some(Signals::listen().ok()?.next().await) });
        if let Some(signal) = signal {
            restore(&before);
            output::stderr_line("");
            std::process::exit(i32::from(signal.exit_code()));
        }
    });
}

#[cfg(not(unix))]
struct EchoOff;

#[cfg(not(unix))]
impl EchoOff {
    fn new() -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn the_lines_are_a_configuration() {
        let hash = hash_password(b"secret").expect("hashed");
        let text = lines(Some("ada \"l\""), &hash);
        let loaded = parse("passwd", &text).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(loaded.settings.broker.users[0].name, "ada \"l\"");
        assert_eq!(lines(None, &hash), format!("{hash}\n"));
    }

    #[test]
    fn one_line_is_read() {
        let check = |input: &str, line: &str| {
            assert_eq!(first_line(&mut input.as_bytes()).expect("read"), line);
        };
        check("secret\nmore\n", "secret");
        check("secret\r\n", "secret");
        check("se cret ", "se cret ");
        check("", "");
    }
}
