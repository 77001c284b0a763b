//! A client for tests: tungstenite over a real socket, frames by the protocol crate.

use bytes::Bytes;
use hawser_protocol::frame::{Ack, ClientFrame, Deliver, ServerFrame, split};
use hawser_protocol::ids::{ChatId, ClientMsgId};
use hawser_protocol::message::{MessageType, Send};
use hawser_protocol::pb;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

/// Long enough for a loaded machine; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Plain or TLS.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Stream {
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // A wait with a time-out is not restarted by the kernel after a signal.
        loop {
            let read = match self {
                Self::Plain(tcp) => tcp.read(buf),
                Self::Tls(tls) => tls.read(buf),
            };
            if !matches!(&read, Err(e) if e.kind() == io::ErrorKind::Interrupted) {
                return read;
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(buf),
            Self::Tls(tls) => tls.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// How to reach the node.
#[derive(Clone)]
pub struct Target {
    pub addr: SocketAddr,
    /// Trusts this certificate; `None`: plain.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl Target {
    pub fn open(&self) -> Stream {
        let tcp = TcpStream::connect(self.addr).expect("the node listens");
        self.wrap(tcp)
    }

    fn wrap(&self, tcp: TcpStream) -> Stream {
        tcp.set_nodelay(true).expect("an option");
        tcp.set_read_timeout(Some(PATIENCE)).expect("an option");
        tcp.set_write_timeout(Some(PATIENCE)).expect("an option");
        match &self.tls {
            None => Stream::Plain(tcp),
            Some(config) => {
                let name = "localhost".try_into().expect("a name");
                let tls = rustls::ClientConnection::new(config.clone(), name).expect("a config");
                Stream::Tls(Box::new(rustls::StreamOwned::new(tls, tcp)))
            }
        }
    }

    /// The upgrade request, so that a test can spoil it.
    pub fn request(
        &self,
        path: &str,
        subprotocol: &str,
    ) -> tungstenite::handshake::client::Request {
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        let url = format!("{scheme}://localhost:{}{path}", self.addr.port());
        let mut request = url.into_client_request().expect("a url");
        if !subprotocol.is_empty() {
            let value = subprotocol.parse().expect("a header value");
            request
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", value);
        }
        request
    }

    /// The same, where the node may be dead or die.
    pub fn try_upgrade(&self, subprotocol: &str) -> Option<WebSocket<Stream>> {
        let tcp = TcpStream::connect(self.addr).ok()?;
        let request = self.request("/v1/ws", subprotocol);
        Some(tungstenite::client(request, self.wrap(tcp)).ok()?.0)
    }

    /// An upgraded connection without Hello.
    pub fn upgrade(&self, subprotocol: &str) -> WebSocket<Stream> {
        let request = self.request("/v1/ws", subprotocol);
        let (socket, _) = tungstenite::client(request, self.open()).expect("an upgrade");
        socket
    }
}

/// A session on `hawser.v1`.
pub struct Client {
    pub socket: WebSocket<Stream>,
    frames: VecDeque<ServerFrame>,
    pub welcome: pb::Welcome,
    /// Acknowledge every frame that has an offset as it is read.
    pub auto_ack: bool,
    pub last_offset: Option<u64>,
}

/// What ended a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// A close frame with this code.
    Code(u16),
    /// Sent to this address, instead of a Welcome.
    Redirected(String),
    /// The connection ended without one.
    Abrupt,
}

/// What a Hello says besides the token.
#[derive(Default, Clone)]
pub struct Resume {
    pub token: Vec<u8>,
    pub last_offset: Option<u64>,
    pub live_only: bool,
    /// Cannot go elsewhere.
    pub stays: bool,
}

impl Client {
    /// Says Hello and expects Welcome.
    pub fn connect(target: &Target, token: &str, device: &str, resume: Resume) -> Self {
        Self::try_connect(target, token, device, resume).expect("a Welcome")
    }

    /// Says Hello; an error is how the node closed.
    pub fn try_connect(
        target: &Target,
        token: &str,
        device: &str,
        resume: Resume,
    ) -> Result<Self, Closed> {
        Self::greet(target, token, device, resume)?.welcomed(|_| ())
    }

    /// Says Hello, and no more.
    pub fn greet(
        target: &Target,
        token: &str,
        device: &str,
        resume: Resume,
    ) -> Result<Self, Closed> {
        let socket = target.try_upgrade("hawser.v1").ok_or(Closed::Abrupt)?;
        let mut client = Self {
            socket,
            frames: VecDeque::new(),
            welcome: pb::Welcome::default(),
            auto_ack: true,
            last_offset: None,
        };
        client.try_send_frame(&ClientFrame::Hello(pb::Hello {
            token: token.to_owned(),
            device: device.to_owned(),
            resume_token: resume.token.into(),
            last_offset: resume.last_offset,
            live_only: resume.live_only,
            redirect_never: resume.stays,
            ..pb::Hello::default()
        }));
        Ok(client)
    }

    /// Waits for the answer to Hello; errors before it are told.
    pub fn welcomed(mut self, mut refused: impl FnMut(pb::Error)) -> Result<Self, Closed> {
        loop {
            match self.try_next()? {
                ServerFrame::Welcome(welcome) => {
                    self.welcome = welcome;
                    return Ok(self);
                }
                ServerFrame::Redirect(redirect) => {
                    assert_eq!(self.closed(), Closed::Code(4300));
                    return Err(Closed::Redirected(redirect.url));
                }
                ServerFrame::Error(error) => refused(error),
                other => panic!("{other:?} before Welcome"),
            }
        }
    }

    pub fn send_frame(&mut self, frame: &ClientFrame) {
        assert!(self.try_send_frame(frame), "the node reads");
    }

    /// `false`: the connection has ended; reading says how.
    pub fn try_send_frame(&mut self, frame: &ClientFrame) -> bool {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.socket.send(Message::Binary(bytes.into())).is_ok()
    }

    /// Sends a text; returns its id.
    pub fn send(&mut self, chat: &ChatId, body: &[u8]) -> ClientMsgId {
        let id = new_id();
        self.send_as(id, chat, body);
        id
    }

    pub fn send_as(&mut self, id: ClientMsgId, chat: &ChatId, body: &[u8]) {
        assert!(self.try_send_as(id, chat, body), "the node reads");
    }

    pub fn try_send_as(&mut self, id: ClientMsgId, chat: &ChatId, body: &[u8]) -> bool {
        self.try_send_frame(&ClientFrame::Send(Send {
            client_msg_id: id,
            send_ts_ms: now_ms(),
            message_type: MessageType::TEXT,
            retry: false,
            chat: chat.clone(),
            body: Bytes::copy_from_slice(body),
            envelopes: Vec::new(),
        }))
    }

    pub fn ack(&mut self, offset: u64) {
        self.send_frame(&ClientFrame::Ack(Ack { offset }));
    }

    /// Adopts the head after a Welcome that was not recovered.
    pub fn adopt(&mut self) {
        self.ack(Ack::ADOPT);
    }

    /// The next frame.
    pub fn next(&mut self) -> ServerFrame {
        self.try_next().expect("a frame")
    }

    /// The next frame, or how the connection ended.
    pub fn try_next(&mut self) -> Result<ServerFrame, Closed> {
        self.poll()
            .unwrap_or_else(|| panic!("nothing came for {PATIENCE:?}"))
    }

    /// The same; `None`: nothing came within the socket's read time-out.
    pub fn poll(&mut self) -> Option<Result<ServerFrame, Closed>> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                if let Some(offset) = offset_of(&frame) {
                    self.last_offset = Some(offset);
                    if self.auto_ack {
                        self.try_send_frame(&ClientFrame::Ack(Ack { offset }));
                    }
                }
                return Some(Ok(frame));
            }
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => {
                    let mut bytes = bytes;
                    while let Some(raw) = split(&mut bytes).expect("whole frames") {
                        self.frames
                            .push_back(ServerFrame::decode(&raw).expect("a sound frame"));
                    }
                }
                Ok(Message::Close(frame)) => return Some(Err(closed(frame.map(|f| f.code)))),
                Ok(_) => {}
                Err(Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => {
                    return None;
                }
                Err(_) => return Some(Err(Closed::Abrupt)),
            }
        }
    }

    /// Skips frames until one fits.
    pub fn until<T>(&mut self, mut fits: impl FnMut(ServerFrame) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "the awaited frame did not come");
            if let Some(found) = fits(self.next()) {
                return found;
            }
        }
    }

    /// The next message of a person's, skipping other frames.
    pub fn deliver(&mut self) -> Deliver {
        self.until(|frame| match frame {
            ServerFrame::Deliver(d) if d.record.message_type != MessageType::MEMBERSHIP => Some(d),
            _ => None,
        })
    }

    /// The result of a Send, skipping other frames.
    pub fn result(&mut self, id: ClientMsgId) -> pb::SendResult {
        self.until(|frame| match frame {
            ServerFrame::SendResult(result) if result.client_msg_id[..] == id.0 => Some(result),
            _ => None,
        })
    }

    /// CaughtUp, skipping other frames.
    pub fn caught_up(&mut self) -> pb::CaughtUp {
        self.until(|frame| match frame {
            ServerFrame::CaughtUp(caught_up) => Some(caught_up),
            _ => None,
        })
    }

    /// Reads on until the node closes.
    pub fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.try_next() {
                return closed;
            }
        }
    }

    /// Whether nothing comes for so long.
    pub fn quiet(&mut self, time: Duration) -> bool {
        if !self.frames.is_empty() {
            return false;
        }
        let tcp = self.socket.get_ref().tcp();
        tcp.set_read_timeout(Some(time)).expect("an option");
        let read = self.socket.read();
        let tcp = self.socket.get_ref().tcp();
        tcp.set_read_timeout(Some(PATIENCE)).expect("an option");
        matches!(read, Err(Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// What a reconnect says to go on from here.
    pub fn resume(&self) -> Resume {
        Resume {
            token: self.welcome.resume_token.to_vec(),
            last_offset: self.last_offset,
            ..Resume::default()
        }
    }
}

fn closed(code: Option<CloseCode>) -> Closed {
    code.map_or(Closed::Abrupt, |code| Closed::Code(code.into()))
}

fn offset_of(frame: &ServerFrame) -> Option<u64> {
    match frame {
        ServerFrame::Deliver(d) => Some(d.offset),
        ServerFrame::SendResult(r) if r.offset != 0 => Some(r.offset),
        ServerFrame::ReceiptUpdate(r) => Some(r.offset),
        _ => None,
    }
}

pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.expect("after 1970").as_millis()).expect("fits")
}

/// A UUIDv7, unique within the test run.
pub fn new_id() -> ClientMsgId {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let unique = (u64::from(std::process::id()) << 40) ^ count;
    let mut id = [0; 16];
    id[..6].copy_from_slice(&now_ms().to_be_bytes()[2..]);
    id[6] = 0x70;
    id[8..].copy_from_slice(&unique.to_be_bytes());
    id[8] = 0x80 | (id[8] & 0x3f);
    ClientMsgId(id)
}

/// Trusts exactly one self-made certificate, in a PEM file.
pub fn trusting(
    path: &std::path::Path,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Arc<rustls::ClientConfig> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(path).expect("a file") {
        roots.add(cert.expect("a certificate")).expect("an anchor");
    }
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
