//! A broadcast server on tokio and tungstenite, as one is commonly written: the rival that needs no package.
//!
//! It speaks the letters of `rivals/speech/raw.rs`. Tuned: 4 KiB buffers instead of 128 KiB, frames of all messages that
//! wait are flushed together, bodies are shared.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use clap::Parser;
use futures_util::{SinkExt as _, StreamExt as _};
use hawser_benches::rivals::tls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Messages that wait for one connection; one that is slower loses the rest.
const WAITING_MAX: usize = 1_024;
/// Messages that are written before a flush.
const TOGETHER_MAX: usize = 64;
const BUFFER_BYTES: usize = 4_096;

/// A broadcast server on tokio and tungstenite.
#[derive(Debug, Parser)]
struct Cli {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// Folder of cert.pem and key.pem: connections are of TLS.
    #[arg(long)]
    tls: Option<PathBuf>,
}

#[derive(Default)]
struct Hub {
    subscribers: HashMap<u32, Sender<Bytes>>,
    direct: HashMap<u32, Sender<Bytes>>,
}

type Shared = Rc<RefCell<Hub>>;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(cli))
}

async fn serve(cli: Cli) -> anyhow::Result<()> {
    let acceptor = match &cli.tls {
        Some(folder) => Some(TlsAcceptor::from(tls::server(folder)?)),
        None => None,
    };
    let listener = TcpListener::bind(cli.listen).await?;
    println!("listening on {}", listener.local_addr()?);
    let hub = Shared::default();
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (hub, acceptor) = (Rc::clone(&hub), acceptor.clone());
        tokio::task::spawn_local(async move {
            // What a connection broke by is its own affair.
            match acceptor {
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        connection(stream, hub).await;
                    }
                }
                None => connection(stream, hub).await,
            }
        });
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, hub: Shared) {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES);
    let Ok(socket) = accept_async_with_config(stream, Some(config)).await else {
        return;
    };
    let (mut sink, mut source) = socket.split();
    let (tell, mut told) = channel::<Bytes>(WAITING_MAX);
    let mut number = None;
    loop {
        tokio::select! {
            message = source.next() => match message {
                Some(Ok(Message::Binary(bytes))) => heard(&hub, &bytes, &tell, &mut number),
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
            // Only the wait is given up when bytes come first: a body once taken is written.
            Some(first) = told.recv() => if !write(first, &mut told, &mut sink).await { break },
        }
    }
    if let Some(number) = number {
        let mut hub = hub.borrow_mut();
        hub.subscribers.remove(&number);
        hub.direct.remove(&number);
    }
}

/// Writes all that waits, and flushes once. False when the connection is broken.
async fn write<S>(first: Bytes, told: &mut Receiver<Bytes>, sink: &mut S) -> bool
where
    S: futures_util::Sink<Message> + Unpin,
{
    if sink.feed(Message::Binary(first)).await.is_err() {
        return false;
    }
    for _ in 1..TOGETHER_MAX {
        let Ok(body) = told.try_recv() else { break };
        if sink.feed(Message::Binary(body)).await.is_err() {
            return false;
        }
    }
    sink.flush().await.is_ok()
}

fn heard(hub: &Shared, message: &Bytes, tell: &Sender<Bytes>, number: &mut Option<u32>) {
    let Some(letter) = message.first() else {
        return;
    };
    let named = message.get(1..5).and_then(|four| four.try_into().ok());
    let named = named.map(u32::from_le_bytes);
    match (letter, named) {
        (b'B', _) => {
            let body = message.slice(1..);
            for subscriber in hub.borrow().subscribers.values() {
                let _ = subscriber.try_send(body.clone());
            }
        }
        (b'D', Some(peer)) => {
            if let Some(peer) = hub.borrow().direct.get(&peer) {
                let _ = peer.try_send(message.slice(5..));
            }
        }
        (letter @ (b'I' | b'J'), Some(own)) => {
            *number = Some(own);
            let mut hub = hub.borrow_mut();
            if *letter == b'I' {
                hub.subscribers.insert(own, tell.clone());
            }
            hub.direct.insert(own, tell.clone());
            let _ = tell.try_send(Bytes::from_static(b"i"));
        }
        _ => {}
    }
}
