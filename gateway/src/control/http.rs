//! Page and API on the control thread: a connection whose first request is no upgrade is handed here
//! with its TLS state and the bytes already read.

use crate::accept::addresses::AddressPermit;
use axum::Router;
use hawser_protocol::limits::HTTP_HEAD_BYTES_MAX;
use hawser_wire::record::Layer;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::TcpStream as StdStream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection may idle between requests, or take to send a head, for so long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(8);
/// A connection lives at most so long: API clients reconnect, slow ones are cut.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// hyper's buffer: one head, or one chunk of a body.
const BUFFER_BYTES_MAX: usize = 2 * HTTP_HEAD_BYTES_MAX;
/// Bytes of one read of the socket.
const READ_BYTES: usize = 4_096;
/// Bytes sealed at a time: one TLS record.
const WRITE_BYTES: usize = 16_384;

/// An HTTP connection taken from a core.
pub(crate) struct HttpConnection {
    /// The socket, non-blocking.
    pub(crate) stream: StdStream,
    /// TLS or plain.
    pub(crate) layer: Layer,
    /// What was read of the socket and not yet opened.
    pub(crate) undecrypted: Vec<u8>,
    /// What was opened.
    pub(crate) read: Vec<u8>,
    /// The address's place, held while the connection lives.
    pub(crate) permit: AddressPermit,
}

/// Serves one connection until it ends; errors are the peer's and only end it.
pub(crate) async fn serve(connection: HttpConnection, router: Router) {
    let Ok(stream) = TcpStream::from_std(connection.stream) else {
        return;
    };
    let io = TokioIo::new(Opened {
        stream,
        layer: connection.layer,
        incoming: connection.undecrypted,
        plain: connection.read,
        at: 0,
        outgoing: Vec::new(),
        sent: 0,
        ended: false,
        closing: false,
    });
    let service = TowerToHyperService::new(router);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(hawser_protocol::limits::HTTP_HEADERS_MAX)
        .serve_connection(io, service);
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, served).await;
    drop(connection.permit);
}

/// A socket behind its layer, which first gives back what was already read of it.
struct Opened {
    stream: TcpStream,
    layer: Layer,
    incoming: Vec<u8>,
    plain: Vec<u8>,
    /// What of `plain` was given.
    at: usize,
    /// Sealed, not yet taken by the socket: at most one write's bytes.
    outgoing: Vec<u8>,
    sent: usize,
    ended: bool,
    closing: bool,
}

impl Opened {
    /// Gives what is opened; whether there was something.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let left = self.plain.get(self.at..).unwrap_or_default();
        let take = left.len().min(buf.remaining());
        buf.put_slice(&left[..take]);
        self.at += take;
        if self.at == self.plain.len() {
            self.plain.clear();
            self.at = 0;
        }
        take > 0
    }

    /// Sends what is sealed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outgoing.len() {
            let rest = &self.outgoing[self.sent..];
            match std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.give(buf) || this.ended || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            this.ended |= read.filled().is_empty();
            this.incoming.extend_from_slice(read.filled());
            let opened = this
                .layer
                .open(&mut this.incoming, &mut this.plain, &mut this.outgoing);
            this.ended |= opened.map_err(io::Error::other)?.closed;
        }
    }
}

impl AsyncWrite for Opened {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        // What an earlier write sealed goes first, so that at most one write is held.
        std::task::ready!(this.poll_send(cx))?;
        let take = buf.len().min(WRITE_BYTES);
        this.layer
            .seal(&buf[..take], &mut this.outgoing)
            .map_err(io::Error::other)?;
        if let Poll::Ready(Err(error)) = this.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(take))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !std::mem::replace(&mut this.closing, true) {
            this.layer.close_notify(&mut this.outgoing);
        }
        std::task::ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept::addresses::AddressTable;
    use crate::node::config::NodeConfig;
    use axum::routing::get;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[tokio::test]
    async fn bytes_read_before_the_handover_are_part_of_the_request() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        let client = std::thread::spawn(move || {
            let mut stream = StdStream::connect(addr).expect("connects");
            stream
                .write_all(b"GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .expect("writes");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("reads");
            answer
        });
        let (mut stream, _) = listener.accept().expect("accepts");
        let mut read = vec![0; 9];
        stream.read_exact(&mut read).expect("first bytes");
        stream.set_nonblocking(true).expect("non-blocking");
        let router = Router::new().route("/page", get(|| async { "hello" }));
        let limits = NodeConfig::default().admission.of_address();
        let permit = AddressTable::new(limits)
            .enter([127, 0, 0, 1].into(), 0)
            .expect("no bound");
        let connection = HttpConnection {
            stream,
            layer: Layer::Plain,
            undecrypted: Vec::new(),
            read,
            permit,
        };
        serve(connection, router).await;
        let answer = client.join().expect("client");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("hello"), "{answer}");
    }
}
