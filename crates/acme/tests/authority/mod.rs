//! An authority for tests: RFC 8555 over HTTPS, as far as an honest client needs it, and no further.
//!
//! It is strict where a client could cheat or slip: every request but the directory and the nonces is a JWS of the right
//! key with a fresh nonce and its own address, and a name is proved only by what it finds when it goes and looks. At the
//! first name of an order it looks after it has answered, as the large ones do, at the others before.

mod look;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
};
use rustls_pki_types::{CertificateSigningRequestDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What it does, and what it has seen.
pub(crate) struct Authority {
    pub(crate) directory: String,
    state: Arc<Mutex<State>>,
    base: String,
    issuer: Issuer<'static, KeyPair>,
    /// Where ports 80 and 443 of all names lead.
    looks_at: SocketAddr,
    /// How many more orders it takes; the next one waits.
    pub(crate) orders: Semaphore,
}

#[derive(Default)]
struct State {
    nonces: HashSet<String>,
    made: u64,
    /// Public keys in JWK, by account.
    accounts: Vec<Value>,
    orders: Vec<Order>,
    /// How long the next certificates have been and will be good, the first one first; then 90 days.
    lives: Vec<(Duration, Duration)>,
    serial: u64,
}

struct Order {
    domains: Vec<String>,
    token: String,
    /// Of each name: whether it is proved, or why not.
    proved: HashMap<usize, Result<(), String>>,
    certificate: Option<String>,
}

/// An answer: status, `Location`, body.
type Answer = (u16, Option<String>, Value);

impl Authority {
    /// Listens on loopback; the certificate to trust it by is `authority.pem` in `folder`.
    pub(crate) async fn start(folder: &Path, looks_at: SocketAddr, orders: usize) -> Arc<Self> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        std::fs::write(folder.join("authority.pem"), root.pem()).unwrap();
        let issuer = Issuer::new(params, key);

        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let own = own.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![own.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let authority = Arc::new(Self {
            directory: format!("{base}/directory"),
            state: Arc::default(),
            base,
            issuer,
            looks_at,
            orders: Semaphore::new(orders),
        });
        let (serving, acceptor) = (Arc::clone(&authority), TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (authority, acceptor) = (Arc::clone(&serving), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        authority.serve(stream).await;
                    }
                });
            }
        });
        authority
    }

    /// The next certificate has been good for `before` and will be for `after`.
    pub(crate) fn next_lives(&self, before: Duration, after: Duration) {
        self.state.lock().unwrap().lives.push((before, after));
    }

    pub(crate) fn forget_accounts(&self) {
        self.state.lock().unwrap().accounts.clear();
    }

    pub(crate) fn accounts(&self) -> usize {
        self.state.lock().unwrap().accounts.len()
    }

    pub(crate) fn issued(&self) -> u64 {
        self.state.lock().unwrap().serial
    }

    /// Requests of one connection, one behind the other.
    async fn serve(self: Arc<Self>, mut stream: TlsStream<TcpStream>) {
        let mut unread = Vec::new();
        loop {
            let (method, path, length, start) = loop {
                let mut headers = [httparse::EMPTY_HEADER; 32];
                let mut request = httparse::Request::new(&mut headers);
                if let httparse::Status::Complete(start) = request.parse(&unread).unwrap() {
                    let length = request.headers.iter().find_map(|header| {
                        let is_length = header.name.eq_ignore_ascii_case("content-length");
                        is_length.then(|| std::str::from_utf8(header.value).unwrap().parse())
                    });
                    let length: usize = length.map_or(0, Result::unwrap);
                    let (method, path) = (request.method.unwrap(), request.path.unwrap());
                    break (method.to_owned(), path.to_owned(), length, start);
                }
                if stream.read_buf(&mut unread).await.unwrap_or(0) == 0 {
                    return;
                }
            };
            while unread.len() < start + length {
                assert_ne!(stream.read_buf(&mut unread).await.unwrap(), 0);
            }
            let body: Vec<u8> = unread.drain(..start + length).skip(start).collect();
            let (status, location, content) = match (method.as_str(), path.as_str()) {
                ("GET", "/directory") => (200, None, self.addresses()),
                ("HEAD" | "GET", "/nonce") => (200, None, Value::Null),
                ("POST", path) => match self.verify(path, &body) {
                    Ok((account, payload)) => self.answer(path, account, &payload).await,
                    Err(problem) => problem,
                },
                _ => problem(404, "malformed", "there is nothing here"),
            };
            let text = match &content {
                Value::String(pem) => pem.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            let location = location.map_or_else(String::new, |at| format!("Location: {at}\r\n"));
            let answer = format!(
                "HTTP/1.1 {status} .\r\nReplay-Nonce: {}\r\n{location}Content-Length: {}\r\n\r\n{text}",
                self.nonce(),
                text.len()
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn addresses(&self) -> Value {
        let at = |name: &str| format!("{}/{name}", self.base);
        json!({
            "newNonce": at("nonce"), "newAccount": at("account"), "newOrder": at("order"),
            "revokeCert": at("revoke"), "keyChange": at("key"),
        })
    }

    fn nonce(&self) -> String {
        let mut state = self.state.lock().unwrap();
        state.made += 1;
        let nonce = BASE64.encode(state.made.to_be_bytes());
        state.nonces.insert(nonce.clone());
        nonce
    }

    /// The account that signed `body`, or the key that is to become one, and what was signed.
    fn verify(&self, path: &str, body: &[u8]) -> Result<(Signer, Value), Answer> {
        let wrong = |words: &str| Err(problem(400, "malformed", words));
        let jws: Value = serde_json::from_slice(body).unwrap_or_default();
        let part = |name: &str| jws[name].as_str().unwrap_or_default();
        let decoded = |name: &str| BASE64.decode(part(name)).unwrap_or_default();
        let header: Value = serde_json::from_slice(&decoded("protected")).unwrap_or_default();
        if header["alg"] != "ES256" || header["url"] != format!("{}{path}", self.base) {
            return wrong("another algorithm, or meant for another address");
        }
        let nonce = header["nonce"].as_str().unwrap_or_default();
        let state = &mut *self.state.lock().unwrap();
        if !state.nonces.remove(nonce) {
            return Err(problem(400, "badNonce", "not a fresh nonce"));
        }
        let (signer, jwk) = match (header.get("jwk"), header["kid"].as_str()) {
            (Some(jwk), None) => (Signer::New(jwk.clone()), jwk.clone()),
            (None, Some(kid)) => {
                let at = kid.strip_prefix(&format!("{}/account/", self.base));
                let at = at.and_then(|at| at.parse::<usize>().ok());
                match at.and_then(|at| Some((at, state.accounts.get(at)?))) {
                    Some((at, jwk)) => (Signer::Account(at), jwk.clone()),
                    None => return Err(problem(400, "accountDoesNotExist", "who is that?")),
                }
            }
            _ => return wrong("a key or an account, not both"),
        };
        let mut point = vec![4];
        for axis in ["x", "y"] {
            let axis = jwk[axis].as_str().unwrap_or_default();
            point.extend(BASE64.decode(axis).unwrap_or_default());
        }
        let message = format!("{}.{}", part("protected"), part("payload"));
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        if key
            .verify(message.as_bytes(), &decoded("signature"))
            .is_err()
        {
            return wrong("the signature is wrong");
        }
        let payload = serde_json::from_slice(&decoded("payload")).unwrap_or_default();
        Ok((signer, payload))
    }

    async fn answer(self: &Arc<Self>, path: &str, signer: Signer, payload: &Value) -> Answer {
        let mut words = path.trim_start_matches('/').split('/');
        let what = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok());
        let (order, name) = (number(), number());
        match (what, signer, order, name) {
            ("account", Signer::New(jwk), None, _) => self.new_account(jwk, payload),
            ("order", Signer::Account(_), None, _) => {
                self.orders.acquire().await.unwrap().forget();
                self.new_order(payload)
            }
            ("order", Signer::Account(_), Some(at), _) => (200, None, self.order(at)),
            ("authorization", Signer::Account(_), Some(at), Some(name)) => {
                (200, None, self.authorization(at, name))
            }
            (kind @ ("http-01" | "tls-alpn-01"), Signer::Account(by), Some(at), Some(name)) => {
                let (authority, kind_of) = (Arc::clone(self), kind.to_owned());
                let looking =
                    tokio::spawn(async move { authority.look(&kind_of, by, at, name).await });
                if name > 0 {
                    looking.await.unwrap();
                }
                (200, None, self.challenge(kind, at, name))
            }
            ("finalize", Signer::Account(_), Some(at), _) => self.finalize(at, payload),
            ("certificate", Signer::Account(_), Some(at), _) => {
                let state = self.state.lock().unwrap();
                (
                    200,
                    None,
                    Value::String(state.orders[at].certificate.clone().unwrap()),
                )
            }
            _ => problem(404, "malformed", "there is nothing here"),
        }
    }

    fn new_account(&self, jwk: Value, payload: &Value) -> Answer {
        if payload["termsOfServiceAgreed"] != true {
            return problem(403, "userActionRequired", "the terms were not agreed to");
        }
        let mut state = self.state.lock().unwrap();
        state.accounts.push(jwk);
        let at = format!("{}/account/{}", self.base, state.accounts.len() - 1);
        (201, Some(at), json!({ "status": "valid" }))
    }

    fn new_order(&self, payload: &Value) -> Answer {
        let identifiers = payload["identifiers"].as_array().unwrap();
        let domains = identifiers
            .iter()
            .map(|identifier| identifier["value"].as_str().unwrap().to_owned());
        let domains: Vec<String> = domains.collect();
        let at = {
            let mut state = self.state.lock().unwrap();
            let token = format!("token-{}", state.orders.len());
            state.orders.push(Order {
                domains,
                token,
                proved: HashMap::new(),
                certificate: None,
            });
            state.orders.len() - 1
        };
        (
            201,
            Some(format!("{}/order/{at}", self.base)),
            self.order(at),
        )
    }

    fn order(&self, at: usize) -> Value {
        let state = self.state.lock().unwrap();
        let order = &state.orders[at];
        let proved = order
            .proved
            .values()
            .filter(|proved| proved.is_ok())
            .count();
        let status = match () {
            () if order.certificate.is_some() => "valid",
            () if proved == order.domains.len() => "ready",
            () if proved < order.proved.len() => "invalid",
            () => "pending",
        };
        let of = |what: &str| format!("{}/{what}/{at}", self.base);
        let authorizations =
            (0..order.domains.len()).map(|name| format!("{}/{name}", of("authorization")));
        json!({
            "status": status,
            "identifiers": order.domains.iter().map(|name| json!({"type": "dns", "value": name})).collect::<Vec<_>>(),
            "authorizations": authorizations.collect::<Vec<_>>(),
            "finalize": of("finalize"),
            "certificate": order.certificate.as_ref().map(|_| of("certificate")),
        })
    }

    fn authorization(&self, at: usize, name: usize) -> Value {
        let (domain, proved) = {
            let state = self.state.lock().unwrap();
            let order = &state.orders[at];
            (
                order.domains[name].clone(),
                order.proved.get(&name).cloned(),
            )
        };
        let status = match proved {
            None => "pending",
            Some(Ok(())) => "valid",
            Some(Err(_)) => "invalid",
        };
        let challenges = ["http-01", "tls-alpn-01"].map(|kind| self.challenge(kind, at, name));
        json!({
            "status": status,
            "identifier": { "type": "dns", "value": domain },
            "challenges": challenges,
        })
    }

    fn challenge(&self, kind: &str, at: usize, name: usize) -> Value {
        let state = self.state.lock().unwrap();
        let order = &state.orders[at];
        let (status, error) = match order.proved.get(&name) {
            None => ("pending", Value::Null),
            Some(Ok(())) => ("valid", Value::Null),
            Some(Err(words)) => (
                "invalid",
                json!({ "type": "urn:ietf:params:acme:error:unauthorized", "detail": words }),
            ),
        };
        json!({
            "type": kind, "status": status, "error": error, "token": order.token,
            "url": format!("{}/{kind}/{at}/{name}", self.base),
        })
    }

    /// Goes and looks whether a name is proved.
    async fn look(&self, kind: &str, account: usize, at: usize, name: usize) {
        let (domain, token, jwk) = {
            let state = self.state.lock().unwrap();
            let order = &state.orders[at];
            let jwk = state.accounts[account].clone();
            (order.domains[name].clone(), order.token.clone(), jwk)
        };
        // RFC 7638: the members that matter, in order, without a space.
        let canonical = format!(
            "{{\"crv\":{},\"kty\":{},\"x\":{},\"y\":{}}}",
            jwk["crv"], jwk["kty"], jwk["x"], jwk["y"]
        );
        let thumbprint = BASE64.encode(digest(&SHA256, canonical.as_bytes()));
        let expected = format!("{token}.{thumbprint}");
        let found = match kind {
            "http-01" => look::http(self.looks_at, &domain, &token, &expected).await,
            _ => look::tls(self.looks_at, &domain, &expected).await,
        };
        let mut state = self.state.lock().unwrap();
        state.orders[at].proved.insert(name, found);
    }

    fn finalize(&self, at: usize, payload: &Value) -> Answer {
        let csr = BASE64.decode(payload["csr"].as_str().unwrap()).unwrap();
        let csr = CertificateSigningRequestDer::from(csr);
        let mut csr = CertificateSigningRequestParams::from_der(&csr).unwrap();
        {
            let state = &mut *self.state.lock().unwrap();
            let day = Duration::from_hours(24);
            let (before, after) = if state.lives.is_empty() {
                (Duration::ZERO, 90 * day)
            } else {
                state.lives.remove(0)
            };
            let now = SystemTime::now();
            csr.params.not_before = (now - before).into();
            csr.params.not_after = (now + after).into();
            state.serial += 1;
            csr.params.serial_number = Some(state.serial.into());
            let certificate = csr.signed_by(&self.issuer).unwrap();
            state.orders[at].certificate = Some(certificate.pem());
        }
        (200, None, self.order(at))
    }
}

/// Who signed.
enum Signer {
    New(Value),
    Account(usize),
}

fn problem(status: u16, kind: &str, words: &str) -> Answer {
    let kind = format!("urn:ietf:params:acme:error:{kind}");
    (
        status,
        None,
        json!({ "type": kind, "detail": words, "status": status }),
    )
}
