//! One connection: a task that moves frames between a WebSocket and the session, and decides nothing.

use crate::transport::{Trust, websocket};
use futures_util::{SinkExt, StreamExt};
use hawser_protocol::frame::ClientFrame;
use std::time::Duration;
use tokio::sync::mpsc;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

/// The WebSocket subprotocol of binary frames.
const SUBPROTOCOL: &str = "hawser.v1";
/// Frames that wait for the socket; a session has at most 64 Sends in flight, and little else.
const FRAMES_WAITING_MAX: usize = 1_024;
/// A close that the peer does not answer within this is a close.
const CLOSE_ANSWER: Duration = Duration::from_secs(1);
/// What RFC 6455 calls a connection that just ended.
const ABNORMAL: u16 = 1006;

/// What a link reports.
#[derive(Debug)]
pub(crate) enum Report {
    /// Open.
    Opened,
    /// One WebSocket message.
    Message(bytes::Bytes),
    /// Gone, or never made.
    Closed {
        /// Close code; 1006 when there was none.
        code: u16,
        /// For people.
        reason: String,
    },
}

enum Order {
    Frame(Box<ClientFrame>),
    Close(u16, &'static str),
}

/// The session's end of a link; dropping it ends the connection.
#[derive(Debug)]
pub(crate) struct Link {
    orders: mpsc::Sender<Order>,
}

impl Link {
    /// Opens in the background; reports go to `reports` under `id`, `Closed` is the last.
    pub(crate) fn open(
        id: u32,
        url: String,
        trust: Trust,
        reports: mpsc::Sender<(u32, Report)>,
    ) -> Self {
        let (orders, inbox) = mpsc::channel(FRAMES_WAITING_MAX);
        tokio::spawn(async move {
            let closed = run(id, &url, &trust, inbox, &reports).await;
            let _ = reports.send((id, closed)).await;
        });
        Self { orders }
    }

    /// Sends a frame; one that does not fit means a connection that takes nothing, which its ping
    /// will find out.
    pub(crate) fn send(&self, frame: Box<ClientFrame>) {
        let _ = self.orders.try_send(Order::Frame(frame));
    }

    /// Closes; what was sent before goes first.
    pub(crate) fn close(&self, code: u16, reason: &'static str) {
        let _ = self.orders.try_send(Order::Close(code, reason));
    }
}

async fn run(
    id: u32,
    url: &str,
    trust: &Trust,
    mut inbox: mpsc::Receiver<Order>,
    reports: &mpsc::Sender<(u32, Report)>,
) -> Report {
    let lost = |reason: String| Report::Closed {
        code: ABNORMAL,
        reason,
    };
    let mut socket = match websocket(url, SUBPROTOCOL, trust).await {
        Ok(socket) => socket,
        Err(error) => return lost(error.to_string()),
    };
    if reports.send((id, Report::Opened)).await.is_err() {
        return lost(String::new());
    }
    loop {
        tokio::select! {
            order = inbox.recv() => match order {
                Some(Order::Frame(frame)) => {
                    if let Err(error) = send(&mut socket, *frame, &mut inbox).await {
                        return lost(error.to_string());
                    }
                }
                Some(Order::Close(code, reason)) => return close(&mut socket, code, reason).await,
                None => return close(&mut socket, 1001, "").await,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    if reports.send((id, Report::Message(bytes))).await.is_err() {
                        return lost(String::new());
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    let _ = tokio::time::timeout(CLOSE_ANSWER, socket.close(None)).await;
                    return match frame {
                        Some(frame) => Report::Closed { code: frame.code.into(), reason: frame.reason.to_string() },
                        None => lost(String::new()),
                    };
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return lost(error.to_string()),
                None => return lost(String::new()),
            },
        }
    }
}

type Socket = tokio_tungstenite::WebSocketStream<Box<dyn crate::transport::Stream>>;

/// Sends a frame and those that wait behind it, then flushes once.
async fn send(
    socket: &mut Socket,
    first: ClientFrame,
    inbox: &mut mpsc::Receiver<Order>,
) -> Result<(), tungstenite::Error> {
    let mut next = Some(Order::Frame(Box::new(first)));
    while let Some(order) = next {
        match order {
            Order::Frame(frame) => {
                let mut bytes = Vec::new();
                frame.encode(&mut bytes);
                socket.feed(Message::Binary(bytes.into())).await?;
            }
            Order::Close(code, reason) => {
                let frame = CloseFrame {
                    code: CloseCode::from(code),
                    reason: reason.into(),
                };
                socket.feed(Message::Close(Some(frame))).await?;
                break;
            }
        }
        next = inbox.try_recv().ok();
    }
    socket.flush().await
}

async fn close(socket: &mut Socket, code: u16, reason: &'static str) -> Report {
    let frame = CloseFrame {
        code: CloseCode::from(code),
        reason: reason.into(),
    };
    let _ = tokio::time::timeout(CLOSE_ANSWER, async {
        socket.close(Some(frame)).await?;
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<(), tungstenite::Error>(())
    })
    .await;
    Report::Closed {
        code,
        reason: reason.to_owned(),
    }
}
