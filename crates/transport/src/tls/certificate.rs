//! What a certificate says about its holder.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509Name};

/// Most names of one kind that are kept of a certificate.
const NAMES_MAX: usize = 64;

/// The subject of a certificate whose chain was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The first common name (CN) of the subject.
    pub common_name: Option<String>,
    /// The whole subject as RFC 4514 writes it, most specific part first: `CN=ada,O=Home,C=NL`.
    pub subject: String,
    /// DNS names of the subject, at most 64.
    pub dns_names: Vec<String>,
    /// URIs of the subject, at most 64.
    pub uris: Vec<String>,
    /// E-mail addresses of the subject, at most 64.
    pub emails: Vec<String>,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

impl PeerCertificate {
    /// Reads a certificate in DER; `None` if it is none.
    pub(crate) fn parse(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let (mut dns_names, mut uris, mut emails) = (Vec::new(), Vec::new(), Vec::new());
        if let Ok(Some(names)) = certificate.subject_alternative_name() {
            for name in &names.value.general_names {
                let (list, text) = match name {
                    GeneralName::DNSName(text) => (&mut dns_names, *text),
                    GeneralName::URI(text) => (&mut uris, *text),
                    GeneralName::RFC822Name(text) => (&mut emails, *text),
                    _ => continue,
                };
                if list.len() < NAMES_MAX {
                    list.push(text.to_owned());
                }
            }
        }
        let validity = certificate.validity();
        Some(Self {
            common_name: certificate
                .subject()
                .iter_common_name()
                .find_map(|name| name.as_str().ok())
                .map(str::to_owned),
            subject: distinguished_name(certificate.subject()),
            dns_names,
            uris,
            emails,
            not_before: system_time(validity.not_before.timestamp()),
            not_after: system_time(validity.not_after.timestamp()),
        })
    }
}

fn system_time(timestamp: i64) -> SystemTime {
    let distance = Duration::from_secs(timestamp.unsigned_abs());
    let time = if timestamp < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    // Beyond what the system can express.
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// RFC 4514: the last component first, special characters escaped.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let components: Vec<_> = name.iter_rdn().collect();
    for component in components.into_iter().rev() {
        for (position, attribute) in component.iter().enumerate() {
            if position > 0 {
                text.push('+');
            } else if !text.is_empty() {
                text.push(',');
            }
            let oid = attribute.attr_type().to_id_string();
            let key = match oid.as_str() {
                "2.5.4.3" => "CN",
                "2.5.4.5" => "serialNumber",
                "2.5.4.6" => "C",
                "2.5.4.7" => "L",
                "2.5.4.8" => "ST",
                "2.5.4.9" => "STREET",
                "2.5.4.10" => "O",
                "2.5.4.11" => "OU",
                "0.9.2342.19200300.100.1.1" => "UID",
                "0.9.2342.19200300.100.1.25" => "DC",
                "1.2.840.113549.1.9.1" => "emailAddress",
                other => other,
            };
            text.push_str(key);
            text.push('=');
            match attribute.as_str() {
                Ok(value) => escape(value, &mut text),
                Err(_) => {
                    text.push('#');
                    for byte in attribute.as_slice() {
                        // Writing to a string cannot fail.
                        let _ = write!(text, "{byte:02x}");
                    }
                }
            }
        }
    }
    text
}

fn escape(value: &str, text: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (position, character) in value.chars().enumerate() {
        let special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=')
            || character == ' ' && (position == 0 || position == last)
            || character == '#' && position == 0;
        if character.is_control() {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                let _ = write!(text, "\\{byte:02x}");
            }
            continue;
        }
        if special {
            text.push('\\');
        }
        text.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    #[test]
    fn the_subject_is_read() {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("a name");
        let mail = "ada@example.org".try_into().expect("ASCII");
        let uri = "urn:x:1".try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::Rfc822Name(mail));
        params.subject_alt_names.push(SanType::URI(uri));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "NL");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Home, sweet");
        params
            .distinguished_name
            .push(DnType::CommonName, "#ada = \n");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let read = PeerCertificate::parse(certificate.der()).expect("readable");
        assert_eq!(read.common_name.as_deref(), Some("#ada = \n"));
        assert_eq!(read.subject, "CN=\\#ada \\= \\0a,O=Home\\, sweet,C=NL");
        assert_eq!(read.dns_names, ["a.example"]);
        assert_eq!(read.uris, ["urn:x:1"]);
        assert_eq!(read.emails, ["ada@example.org"]);
        assert!(read.not_before < SystemTime::now() && SystemTime::now() < read.not_after);
        assert_eq!(PeerCertificate::parse(b"\x30\x03\x02\x01\x01"), None);
    }
}
