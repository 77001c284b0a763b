//! Handshakes that never finish (F14).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::attacker::{Context, Ended};
use super::raw::{How, Inbox, connect};

/// What connections are called that the gateway did not answer: when it let them in cannot be seen from here.
pub(super) const UNANSWERED: &str = "unanswered";

fn ended(how: How, since: Instant) -> Ended {
    Ended {
        what: String::new(),
        how,
        lived: since.elapsed(),
    }
}

/// A whole ClientHello, and then nothing: the gateway has made its keys and its signature for nobody. Its life begins with the
/// gateway's answer, because it may have waited in the backlog before.
pub(super) async fn hello_then_silence(context: &Context, number: u64) -> Ended {
    let mut since = Instant::now();
    let mut stream = match connect(context.site.tls, number, None).await {
        Ok(stream) => stream,
        Err(_) => return ended(How::Unconnected, since),
    };
    context.opened();
    context.waiting.fetch_add(1, Ordering::AcqRel);
    let mut inbox = Inbox::default();
    let answered = async {
        stream.write_all(&context.client_hello).await?;
        inbox.fill(&mut stream).await
    };
    let answered = answered.await;
    context.waiting.fetch_sub(1, Ordering::AcqRel);
    let how = match answered {
        Ok(true) => {
            context.units.fetch_add(1, Ordering::Relaxed);
            since = Instant::now();
            let how = end_of(&mut inbox, &mut stream).await;
            return ended(inbox.answer(how), since);
        }
        Ok(false) => How::Ended,
        Err(error) => How::failed(&error),
    };
    Ended {
        what: UNANSWERED.to_owned(),
        ..ended(how, since)
    }
}

/// Reads to the end.
async fn end_of<S: AsyncRead + Unpin>(inbox: &mut Inbox, stream: &mut S) -> How {
    loop {
        match inbox.fill(stream).await {
            Ok(true) => {}
            Ok(false) => return How::Ended,
            Err(error) => return How::failed(&error),
        }
    }
}

/// The same ClientHello, so slowly that it never ends.
pub(super) async fn hello_by_bytes(context: &Context, number: u64, pause: Duration) -> Ended {
    let since = Instant::now();
    let Ok(stream) = connect(context.site.tls, number, None).await else {
        return ended(How::Unconnected, since);
    };
    context.opened();
    trickle(context, stream, &context.client_hello, pause).await
}

/// The head of a request, so slowly that it never ends.
pub(super) async fn head_by_bytes(
    context: &Context,
    number: u64,
    pause: Duration,
    tls: bool,
) -> Ended {
    let since = Instant::now();
    let to = if tls {
        context.site.tls
    } else {
        context.site.plain
    };
    let Ok(stream) = connect(to, number, None).await else {
        return ended(How::Unconnected, since);
    };
    context.opened();
    let head = super::raw::upgrade_request();
    if !tls {
        return trickle(context, stream, &head, pause).await;
    }
    match wrap(context, stream).await {
        Ok(stream) => {
            let mut end = trickle(context, stream, &head, pause).await;
            // The deadline is for TLS and the head together.
            end.lived = since.elapsed();
            end
        }
        Err(how) => ended(how, since),
    }
}

/// A whole TLS handshake.
pub(super) async fn wrap<S>(
    context: &Context,
    stream: S,
) -> Result<tokio_rustls::client::TlsStream<S>, How>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connector = TlsConnector::from(Arc::clone(&context.site.client));
    let name: ServerName<'static> = context.site.name.clone();
    connector
        .connect(name, stream)
        .await
        .map_err(|_| How::NoTls)
}

/// Byte by byte until the gateway has enough of it, or nothing is left to say.
async fn trickle<S>(context: &Context, mut stream: S, bytes: &[u8], pause: Duration) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let since = Instant::now();
    let mut inbox = Inbox::default();
    let mut left = bytes.iter();
    let mut clock = tokio::time::interval(pause);
    loop {
        tokio::select! {
            read = inbox.fill(&mut stream) => match read {
                Ok(true) => {}
                Ok(false) => return ended(inbox.answer(How::Ended), since),
                Err(error) => return ended(inbox.answer(How::failed(&error)), since),
            },
            _ = clock.tick() => {
                let Some(byte) = left.next() else { continue };
                context.units.fetch_add(1, Ordering::Relaxed);
                let sent = async {
                    stream.write_all(std::slice::from_ref(byte)).await?;
                    stream.flush().await
                };
                if let Err(error) = sent.await {
                    return ended(inbox.answer(How::failed(&error)), since);
                }
            }
        }
    }
}
