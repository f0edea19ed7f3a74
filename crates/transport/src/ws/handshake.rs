//! The HTTP part of WebSocket (RFC 6455, section 4), both sides.

use super::adapter::{Role, WsStream};
use crate::close::close_gracefully;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::handshake::{client::generate_key, derive_accept_key};

/// Header lines of a request or answer; browsers send about fifteen.
const HEADERS_MAX: usize = 64;
/// How much an HTTP answer that refuses is read of, to show it to the user.
const REFUSAL_BYTES_MAX: usize = 8 * 1024;
/// How long a refused peer gets to read the answer.
const REFUSAL_LINGER: Duration = Duration::from_secs(2);

/// What a WebSocket listener accepts.
#[derive(Clone, Debug)]
pub struct WsOptions {
    /// The only request path to serve, starting with `/`; a query string is not compared.
    /// `None` (default) serves every path. The path of a listening URL takes precedence.
    pub path: Option<String>,
    /// Subprotocols, the preferred one first. Default `mqtt`, `mqttv3.1`.
    pub subprotocols: Vec<String>,
    /// Refuses requests that offer no subprotocol. Default false: some small clients offer none.
    /// Requests that offer only unknown ones are refused in any case.
    pub require_subprotocol: bool,
    /// The largest payload of one incoming frame. Default 512 MiB: frames cost no memory, so
    /// this need not be tight, but it should not be below the largest packet.
    pub max_frame_bytes: u64,
    /// The longest request head. Default 8 KiB.
    pub max_header_bytes: usize,
    /// The pages whose scripts may connect, as browsers name them in `Origin`:
    /// `https://example.org`, with a port where it is not the usual one. Empty (default) for all.
    /// Requests without `Origin`, which come from no browser, are not concerned.
    pub origins: Vec<String>,
}

impl Default for WsOptions {
    fn default() -> Self {
        Self {
            path: None,
            subprotocols: vec!["mqtt".into(), "mqttv3.1".into()],
            require_subprotocol: false,
            max_frame_bytes: 512 * 1024 * 1024,
            max_header_bytes: 8 * 1024,
            origins: Vec::new(),
        }
    }
}

/// For whom a proxy in front asks, if it is one.
#[derive(Debug, Default)]
pub(crate) struct Forwarded {
    /// The values of `X-Forwarded-For`, in order.
    pub(crate) chain: Vec<String>,
    /// The value of `X-Real-IP`.
    pub(crate) real: Option<String>,
}

impl Forwarded {
    /// The addresses, the nearest proxy's client first; `None` for an element that is none.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Option<IpAddr>> {
        let chain = self
            .chain
            .iter()
            .rev()
            .flat_map(|list| list.rsplit(','))
            .map(str::trim);
        let real = self.real.as_deref().filter(|_| self.chain.is_empty());
        chain.chain(real).map(|text| {
            // Some write the port as well.
            let address = text.parse().ok();
            address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
        })
    }
}

/// What a WebSocket client asks for and accepts.
#[derive(Clone, Debug)]
pub struct WsClientOptions {
    /// Subprotocols to offer, the preferred one first. Default `mqtt`.
    pub subprotocols: Vec<String>,
    /// The largest payload of one incoming frame. Default 512 MiB.
    pub max_frame_bytes: u64,
    /// The longest answer head. Default 8 KiB.
    pub max_header_bytes: usize,
}

impl Default for WsClientOptions {
    fn default() -> Self {
        let server = WsOptions::default();
        Self {
            subprotocols: vec!["mqtt".into()],
            max_frame_bytes: server.max_frame_bytes,
            max_header_bytes: server.max_header_bytes,
        }
    }
}

/// Why a WebSocket request was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The peer left before its request was complete.
    #[error("the peer closed before its request was complete")]
    Closed,
    /// Reading the request or writing the answer failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The request was answered with an HTTP error.
    #[error("refused with HTTP status {status}: {reason}")]
    Refused {
        /// The status code of the answer.
        status: u16,
        /// Its body: what was wrong.
        reason: String,
    },
}

/// Reads a WebSocket request from `stream` and accepts it. The caller bounds it in time.
///
/// # Errors
/// [`UpgradeError`]. A request that is refused has been answered with the status and a body that
/// explains, and the peer got up to 2 seconds to read it.
pub async fn ws_accept<S>(stream: S, options: &WsOptions) -> Result<WsStream<S>, UpgradeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (stream, _) = ws_accept_forwarded(stream, options).await?;
    Ok(stream)
}

/// As [`ws_accept`], with what the request says about its sender.
pub(crate) async fn ws_accept_forwarded<S>(
    mut stream: S,
    options: &WsOptions,
) -> Result<(WsStream<S>, Forwarded), UpgradeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut received = Vec::new();
    let result = match read_head(&mut stream, &mut received, options.max_header_bytes).await {
        Ok(head_len) => {
            let head = &received[..head_len];
            check_request(head, options).map(|answer| (head_len, answer))
        }
        Err(HeadError::Closed) => return Err(UpgradeError::Closed),
        Err(HeadError::Io(error)) => return Err(error.into()),
        Err(HeadError::TooLong) => Err(Refusal::new(
            431,
            format!(
                "the request head is longer than {} bytes",
                options.max_header_bytes
            ),
        )),
        Err(HeadError::NotHttp) => Err(Refusal::new(
            400,
            "this port speaks WebSocket: the first bytes are not an HTTP request",
        )),
    };
    match result {
        Ok((head_len, (answer, forwarded))) => {
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await?;
            received.drain(..head_len);
            received.shrink_to_fit();
            let stream = WsStream::new(stream, Role::Server, options.max_frame_bytes, received);
            Ok((stream, forwarded))
        }
        Err(refusal) => {
            // Whether the peer still listens changes nothing.
            if stream.write_all(refusal.answer().as_bytes()).await.is_ok() {
                close_gracefully(stream, REFUSAL_LINGER).await;
            }
            Err(UpgradeError::Refused {
                status: refusal.status,
                reason: refusal.reason,
            })
        }
    }
}

enum HeadError {
    Closed,
    Io(io::Error),
    NotHttp,
    TooLong,
}

/// Reads until the empty line that ends an HTTP head; returns the length of the head. More may
/// have been received.
async fn read_head<S: AsyncRead + Unpin>(
    stream: &mut S,
    received: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<usize, HeadError> {
    let mut scratch = [0; 1024];
    loop {
        let room = (bytes_max + 1)
            .saturating_sub(received.len())
            .min(scratch.len());
        let n = match stream.read(&mut scratch[..room]).await {
            Ok(0) => return Err(HeadError::Closed),
            Ok(n) => n,
            Err(error) => return Err(HeadError::Io(error)),
        };
        #[cfg(not(planted_bug))]
        let searched = received.len().saturating_sub(3);
        #[cfg(planted_bug)]
        let searched = received.len();
        received.extend_from_slice(&scratch[..n]);
        if !received[0].is_ascii_alphabetic() {
            return Err(HeadError::NotHttp);
        }
        if let Some(at) = find_blank_line(&received[searched..]) {
            let head_len = searched + at + 4;
            if head_len <= bytes_max {
                return Ok(head_len);
            }
        }
        if received.len() > bytes_max {
            return Err(HeadError::TooLong);
        }
    }
}

fn find_blank_line(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n")
}

/// An HTTP error answer.
#[derive(Debug)]
struct Refusal {
    status: u16,
    reason: String,
}

impl Refusal {
    fn new(status: u16, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }

    fn answer(&self) -> String {
        let (phrase, header) = match self.status {
            403 => ("Forbidden", ""),
            404 => ("Not Found", ""),
            405 => ("Method Not Allowed", "Allow: GET\r\n"),
            426 => (
                "Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            ),
            431 => ("Request Header Fields Too Large", ""),
            505 => ("HTTP Version Not Supported", ""),
            _ => ("Bad Request", ""),
        };
        let connection = if self.status == 426 {
            "Upgrade, close"
        } else {
            "close"
        };
        format!(
            "HTTP/1.1 {} {phrase}\r\n{header}Connection: {connection}\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{}\n",
            self.status,
            self.reason.len() + 1,
            self.reason
        )
    }
}

/// Checks a whole request head; returns the answer that accepts it.
fn check_request(head: &[u8], options: &WsOptions) -> Result<(String, Forwarded), Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => {
            return Err(Refusal::new(400, "incomplete HTTP request"));
        }
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(
                431,
                format!("more than {HEADERS_MAX} header lines"),
            ));
        }
        Err(httparse::Error::Version) => {
            return Err(Refusal::new(505, "WebSocket needs HTTP/1.1"));
        }
        Err(error) => return Err(Refusal::new(400, format!("not an HTTP request: {error}"))),
    }
    if request.version != Some(1) {
        return Err(Refusal::new(505, "WebSocket needs HTTP/1.1"));
    }
    if request.method != Some("GET") {
        return Err(Refusal::new(405, "WebSocket needs the method GET"));
    }
    let target = request.path.unwrap_or("");
    let path = target.split('?').next().unwrap_or(target);
    if let Some(served) = &options.path
        && path != served
    {
        return Err(Refusal::new(
            404,
            format!("WebSocket is served on {served} only"),
        ));
    }
    let headers = Headers(request.headers);
    if !headers.has_token("Upgrade", "websocket") {
        return Err(Refusal::new(
            426,
            "this port speaks WebSocket: connect with a WebSocket client",
        ));
    }
    if !headers.has_token("Connection", "upgrade") {
        return Err(Refusal::new(
            400,
            "the header `Connection: Upgrade` is missing (a proxy may have removed it)",
        ));
    }
    if headers.only("Sec-WebSocket-Version") != Some("13") {
        return Err(Refusal::new(426, "WebSocket version 13 is needed"));
    }
    let key = headers.only("Sec-WebSocket-Key").unwrap_or("");
    if !is_key(key) {
        return Err(Refusal::new(
            400,
            "Sec-WebSocket-Key must be there once, 16 bytes in base64",
        ));
    }
    let has_body = headers.all("Content-Length").any(|length| length != "0")
        || headers.all("Transfer-Encoding").next().is_some();
    if has_body {
        return Err(Refusal::new(400, "a WebSocket request has no body"));
    }
    // Browsers send one line; whoever sends several sends one that is not in the list.
    let foreign = |origin: &str| {
        !options
            .origins
            .iter()
            .any(|o| o.eq_ignore_ascii_case(origin))
    };
    if !options.origins.is_empty() && headers.all("Origin").any(foreign) {
        return Err(Refusal::new(
            403,
            "pages of this origin may not connect here (origins)",
        ));
    }
    let subprotocol = choose_subprotocol(&headers, options)?;
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        derive_accept_key(key.as_bytes())
    );
    if let Some(subprotocol) = subprotocol {
        // Writing to a string cannot fail.
        let _ = write!(answer, "Sec-WebSocket-Protocol: {subprotocol}\r\n");
    }
    answer.push_str("\r\n");
    let forwarded = Forwarded {
        chain: headers.all("X-Forwarded-For").map(str::to_owned).collect(),
        real: headers.only("X-Real-IP").map(str::to_owned),
    };
    Ok((answer, forwarded))
}

/// 16 bytes in base64: 22 digits and two `=`.
fn is_key(key: &str) -> bool {
    let digit = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    key.len() == 24 && key.ends_with("==") && key.bytes().take(22).all(digit)
}

/// Our most preferred subprotocol among those offered.
fn choose_subprotocol<'o>(
    headers: &Headers<'_>,
    options: &'o WsOptions,
) -> Result<Option<&'o str>, Refusal> {
    let offered = || headers.tokens("Sec-WebSocket-Protocol");
    let chosen = options
        .subprotocols
        .iter()
        .find(|ours| offered().any(|theirs| theirs == ours.as_str()));
    let known = options.subprotocols.join(" or ");
    match chosen {
        Some(name) => Ok(Some(name)),
        None if offered().next().is_some() => Err(Refusal::new(
            400,
            format!("none of the offered subprotocols is known: offer {known}"),
        )),
        None if options.require_subprotocol => Err(Refusal::new(
            400,
            format!("the header Sec-WebSocket-Protocol is missing: offer {known}"),
        )),
        None => Ok(None),
    }
}

/// Header lines with the look-ups that the handshake needs. Values that are not text are absent.
struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .filter_map(|header| std::str::from_utf8(header.value).ok())
            .map(str::trim)
    }

    /// The value, if there is exactly one such line.
    fn only(&self, name: &str) -> Option<&'a str> {
        let mut all = self.all(name);
        let first = all.next()?;
        all.next().is_none().then_some(first)
    }

    /// The elements of comma-separated lists in all such lines.
    fn tokens(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.all(name)
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|token| !token.is_empty())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|t| t.eq_ignore_ascii_case(token))
    }
}

/// Asks the server on `stream` for a WebSocket. `host` is the value of the `Host` header,
/// `path` starts with `/`. The caller bounds it in time.
///
/// # Errors
/// `InvalidData` with the server's words when it refused, `InvalidInput` for a `host`, `path` or
/// subprotocol that has no place in a header, or the error of `stream`.
pub async fn ws_connect<S>(
    mut stream: S,
    host: &str,
    path: &str,
    options: &WsClientOptions,
) -> io::Result<WsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let key = generate_key();
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    );
    let offered = options.subprotocols.join(", ");
    if !offered.is_empty() {
        let _ = write!(request, "Sec-WebSocket-Protocol: {offered}\r\n");
    }
    request.push_str("\r\n");
    let visible = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    let clean = visible(host) && visible(path) && options.subprotocols.iter().all(|s| visible(s));
    if !clean {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "host, path and subprotocols of a WebSocket are visible ASCII characters",
        ));
    }
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut received = Vec::new();
    let head_len = read_head(&mut stream, &mut received, options.max_header_bytes)
        .await
        .map_err(|error| match error {
            HeadError::Closed => io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed without an answer to the WebSocket request",
            ),
            HeadError::Io(error) => error,
            HeadError::NotHttp => invalid("the server does not answer in HTTP"),
            HeadError::TooLong => invalid("the server's answer is too long"),
        })?;
    let (head, body) = received.split_at(head_len);
    if let Err(refused) = check_answer(head, &key, options)? {
        let body = read_refusal(&mut stream, body).await;
        return Err(invalid(format!("{refused}{body}")));
    }
    received.drain(..head_len);
    Ok(WsStream::new(
        stream,
        Role::Client,
        options.max_frame_bytes,
        received,
    ))
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

/// Checks the server's answer. `Ok(Err(_))` names the status of a refusal, whose body explains.
fn check_answer(
    head: &[u8],
    key: &str,
    options: &WsClientOptions,
) -> io::Result<Result<(), String>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    match answer.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(invalid("incomplete HTTP answer")),
        Err(error) => return Err(invalid(format!("not an HTTP answer: {error}"))),
    }
    let code = answer.code.unwrap_or(0);
    if code != 101 {
        let phrase = answer.reason.unwrap_or("");
        return Ok(Err(format!("the server answered HTTP {code} {phrase}")));
    }
    let headers = Headers(answer.headers);
    if !headers.has_token("Upgrade", "websocket") || !headers.has_token("Connection", "upgrade") {
        return Err(invalid(
            "the server agreed to something, but not to WebSocket",
        ));
    }
    if headers.only("Sec-WebSocket-Accept") != Some(derive_accept_key(key.as_bytes()).as_str()) {
        return Err(invalid(
            "the server's Sec-WebSocket-Accept does not fit our key",
        ));
    }
    match headers.only("Sec-WebSocket-Protocol") {
        Some(chosen) if !options.subprotocols.iter().any(|ours| ours == chosen) => Err(invalid(
            format!("the server chose subprotocol `{chosen}`, which was not offered"),
        )),
        _ => Ok(Ok(())),
    }
}

/// What the server says about its refusal: the beginning of its body, if any.
async fn read_refusal<S: AsyncRead + Unpin>(stream: &mut S, start: &[u8]) -> String {
    let mut body = start.to_vec();
    let mut scratch = [0; 1024];
    while body.len() < REFUSAL_BYTES_MAX {
        // A server that keeps the connection open must not make us wait for more.
        let read = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut scratch));
        match read.await {
            Ok(Ok(n @ 1..)) => body.extend_from_slice(&scratch[..n]),
            _ => break,
        }
    }
    let text = String::from_utf8_lossy(&body);
    let line = text.lines().next().unwrap_or("").trim();
    if line.is_empty() || line.starts_with('<') {
        String::new()
    } else {
        format!(": {line}")
    }
}
