//! `martlet init --tls`: an authority for development, certificates of it, and the lines to try them with.
//!
//! Deliberately absent: anything for production. Whoever holds `ca.key` can be anybody; certificates that others
//! trust come from an authority they know.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::args::InitArgs;
use crate::output;

/// For how long the authority and the certificates are valid.
const YEARS: i16 = 5;

/// Runs the command.
pub fn run(args: &InitArgs) -> ExitCode {
    match make(args) {
        Ok(made) => {
            output::stderr_line(&made.guide());
            output::stdout(made.lines().as_bytes())
        }
        Err(error) => {
            output::stderr_line(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What was made.
struct Made {
    directory: PathBuf,
    /// What the broker is called in its certificate.
    hosts: Vec<String>,
    client: String,
}

fn make(args: &InitArgs) -> Result<Made, String> {
    let hosts = hosts(args)?;
    let directory = std::path::absolute(&args.directory).unwrap_or(args.directory.clone());
    create_directory(&directory)
        .map_err(|error| format!("{}: cannot be created: {error}", directory.display()))?;
    let files = certificates(&hosts, &args.client).map_err(|error| error.to_string())?;
    // Nothing is written where something would be lost.
    for (name, ..) in &files {
        let path = directory.join(name);
        if path.exists() {
            return Err(format!(
                "{} is there already; move it away or name another directory with --dir",
                path.display()
            ));
        }
    }
    for (name, text, is_secret) in &files {
        let path = directory.join(name);
        write_new(&path, text, *is_secret)
            .map_err(|error| format!("{}: cannot be written: {error}", path.display()))?;
    }
    Ok(Made {
        directory,
        hosts,
        client: args.client.clone(),
    })
}

/// The names to put into the certificate: those asked for, else all that this machine goes by.
fn hosts(args: &InitArgs) -> Result<Vec<String>, String> {
    if let Some(bad) = args.host.iter().find(|host| !is_host(host)) {
        return Err(format!("\"{bad}\" is no host name or address"));
    }
    if !args.host.is_empty() {
        return Ok(args.host.clone());
    }
    let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let own = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let own = own.trim();
    if is_host(own) && !hosts.iter().any(|host| host == own) {
        hosts.push(own.to_owned());
    }
    Ok(hosts)
}

fn is_host(host: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '*');
    host.parse::<IpAddr>().is_ok()
        || !host.is_empty() && host.len() <= 253 && host.chars().all(plain)
}

/// File name, content, and whether it is for nobody else's eyes.
type File = (&'static str, String, bool);

fn certificates(hosts: &[String], client: &str) -> Result<Vec<File>, rcgen::Error> {
    let params = |names: &[String], common_name: &str| -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        let today = jiff::Zoned::now().date();
        // A day early, for clocks that are late.
        let yesterday = today.saturating_sub(jiff::Span::new().days(1));
        let end = today.saturating_add(jiff::Span::new().years(YEARS));
        let date = |date: jiff::civil::Date| {
            rcgen::date_time_ymd(
                date.year().into(),
                date.month().unsigned_abs(),
                date.day().unsigned_abs(),
            )
        };
        params.not_before = date(yesterday);
        params.not_after = date(end);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        Ok(params)
    };
    let ca_key = KeyPair::generate()?;
    let mut ca = params(&[], "Martlet development authority")?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let mut files = vec![
        ("ca.pem", ca_pem, false),
        ("ca.key", ca_key.serialize_pem(), true),
    ];
    let issuer = Issuer::new(ca, ca_key);
    let mut issue = |names: &[String], common_name: &str, purpose, pem, key| {
        let mut leaf = params(names, common_name)?;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![purpose];
        leaf.use_authority_key_identifier_extension = true;
        let leaf_key = KeyPair::generate()?;
        files.push((pem, leaf.signed_by(&leaf_key, &issuer)?.pem(), false));
        files.push((key, leaf_key.serialize_pem(), true));
        Ok::<(), rcgen::Error>(())
    };
    let server = hosts.first().map_or("localhost", String::as_str);
    issue(
        hosts,
        server,
        ExtendedKeyUsagePurpose::ServerAuth,
        "server.pem",
        "server.key",
    )?;
    issue(
        &[],
        client,
        ExtendedKeyUsagePurpose::ClientAuth,
        "client.pem",
        "client.key",
    )?;
    Ok(files)
}

fn create_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn write_new(path: &Path, text: &str, is_secret: bool) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if is_secret { 0o600 } else { 0o644 });
    #[cfg(not(unix))]
    let _ = is_secret;
    options.open(path)?.write_all(text.as_bytes())
}

impl Made {
    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// For people: what there is now and how to try it.
    fn guide(&self) -> String {
        let quoted = |name: &str| shell_quoted(&self.path(name));
        let host = self.hosts.first().map_or("localhost", String::as_str);
        format!(
            "made an authority, a certificate for {} and one for a client named {} in {}\n\
             keep ca.key to yourself: whoever has it can make certificates that your clients trust\n\n\
             serve:   martlet --listen tls://127.0.0.1:8883 --tls-cert {} --tls-key {}\n\
             publish: mosquitto_pub -h {host} -p 8883 --cafile {} -t a/b -m hi\n\
             with the client's certificate, where tls.client_cert asks for it:\n         \
             mosquitto_pub -h {host} -p 8883 --cafile {} --cert {} --key {} -t a/b -m hi\n\n\
             the lines below belong into martlet.toml (`martlet init --tls >> martlet.toml` puts them there)",
            self.hosts.join(", "),
            self.client,
            self.directory.display(),
            quoted("server.pem"),
            quoted("server.key"),
            quoted("ca.pem"),
            quoted("ca.pem"),
            quoted("client.pem"),
            quoted("client.key"),
        )
    }

    /// For the configuration file.
    fn lines(&self) -> String {
        let text = |name: &str| toml::Value::String(self.path(name));
        format!(
            "\n[[listeners]]\nurl = \"tls://127.0.0.1:8883\"\ntls.cert = {}\ntls.key = {}\n\
             # Clients show a certificate, whose common name is their user name:\n\
             # tls.client_cert = \"required\"\n# tls.client_ca = {}\n# identity = \"cn\"\n",
            text("server.pem"),
            text("server.key"),
            text("ca.pem"),
        )
    }
}

/// A word of a shell command.
fn shell_quoted(word: &str) -> String {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ':');
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(directory: &Path) -> InitArgs {
        InitArgs {
            tls: true,
            directory: directory.to_owned(),
            host: vec!["broker.example".to_owned(), "192.0.2.1".to_owned()],
            client: "ada".to_owned(),
        }
    }

    #[test]
    fn what_is_made_can_be_used_and_is_kept_private() {
        let directory = tempfile::tempdir().expect("a directory");
        let certs = directory.path().join("certs");
        let made = make(&args(&certs)).unwrap_or_else(|error| panic!("{error}"));
        let loaded = crate::config::parse("made", &made.lines().replace("# ", ""));
        // The comment lines are settings too, but for the sentence above them.
        assert!(loaded.is_err(), "the sentence is no setting");
        let lines: Vec<String> = made
            .lines()
            .lines()
            .filter(|line| !line.ends_with(':'))
            .map(|line| line.trim_start_matches("# ").to_owned())
            .collect();
        let loaded = crate::config::parse("made", &lines.join("\n"))
            .unwrap_or_else(|problems| panic!("{problems}"));
        let listener = &loaded.settings.program.listeners[0];
        listener.tls.options().check().expect("usable files");
        assert!(made.guide().contains("mosquitto_pub -h broker.example"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let rights = |path: &Path| fs::metadata(path).expect("there").permissions().mode();
            assert_eq!(rights(&certs) & 0o777, 0o700);
            assert_eq!(rights(&certs.join("server.key")) & 0o777, 0o600);
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("client.key"), "mine").expect("written");
        let error = make(&args(directory.path())).err().expect("refused");
        assert!(error.contains("client.key is there already"), "{error}");
        assert!(!directory.path().join("ca.pem").exists());
    }

    #[test]
    fn odd_names_are_refused() {
        for bad in ["", "a b", "a/b", "tls://x"] {
            let mut args = args(Path::new("never"));
            args.host = vec![bad.to_owned()];
            assert!(hosts(&args).is_err(), "{bad}");
        }
    }
}
