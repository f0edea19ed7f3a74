//! An authority and certificates of it, made for one test and deleted after it.

use martlet_transport::{
    CertificateFiles, ConnectOptions, ListenerOptions, TlsClientOptions, TlsOptions,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::path::{Path, PathBuf};

/// A directory with `ca.pem`, `server.pem` and `server.key`; more on demand.
pub struct Certs {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Certs {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let ca = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), ca.pem()).unwrap();
        let certs = Self {
            directory,
            issuer: Issuer::new(params, key),
        };
        certs.issue("server", &["localhost", "127.0.0.1"], |_| {});
        certs
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes `NAME.pem` and `NAME.key`, for these DNS names and addresses, with the common name
    /// `NAME` and the serial number that is its length.
    pub fn issue(&self, name: &str, hosts: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(name.len() as u64));
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// Writes `crl.pem`, which revokes these names.
    pub fn revoke(&self, names: &[&str], next_update_year: i32) {
        let revoked = names.iter().map(|name| RevokedCertParams {
            serial_number: SerialNumber::from(name.len() as u64),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(next_update_year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).unwrap();
        std::fs::write(self.path("crl.pem"), list.pem().unwrap()).unwrap();
    }

    pub fn files(&self, name: &str) -> CertificateFiles {
        CertificateFiles {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        }
    }

    pub fn tls(&self) -> TlsOptions {
        TlsOptions {
            certificates: vec![self.files("server")],
            session_tickets: true,
            ..TlsOptions::default()
        }
    }

    pub fn listener_options(&self) -> ListenerOptions {
        ListenerOptions {
            tls: self.tls(),
            ..ListenerOptions::default()
        }
    }

    pub fn client_tls(&self) -> TlsClientOptions {
        TlsClientOptions {
            ca: Some(self.path("ca.pem")),
            ..TlsClientOptions::default()
        }
    }

    pub fn connect_options(&self) -> ConnectOptions {
        ConnectOptions {
            tls: self.client_tls(),
            ..ConnectOptions::default()
        }
    }
}

/// Replaces a file as careful programs do: a new one beside it, then a rename.
pub fn replace(path: &Path, content: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(&beside, path).unwrap();
}
