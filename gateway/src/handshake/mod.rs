//! From an accepted socket to a session's arrival at its owner core: TLS, the HTTP upgrade, exactly the
//! Hello, the token; then the one handover. A connection that is no WebSocket goes to the control thread.

mod connection;
mod hello;
mod origin;
mod refusal;

use self::connection::{Connection, Ended};
use self::refusal::Refusal;
use crate::accept::acceptor::Admitted;
use crate::accept::addresses::AddressPermit;
use crate::control::ToControl;
use crate::control::http::HttpConnection;
use crate::counters::{Counter, Histogram};
use crate::node::shared::SessionPermit;
use crate::owners::locate::JITTER_MS;
use crate::reactor::core::Core;
use crate::reactor::inbox::{Arriving, Encoding, Greeting, Kind, ToCore};
use hawser_protocol::codes::CloseCode;
use hawser_protocol::limits::{WS_JSON_MESSAGE_BYTES_MAX, WS_MESSAGE_BYTES_MAX};
use hawser_protocol::pb;
use hawser_wire::http::{self, Accepted, Request};
use hawser_wire::ws::{self, Deflate};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Subprotocols, as documented; the client's order decides.
const SUBPROTOCOLS: [&str; 2] = ["hawser.v1", "hawser.v1+json"];
/// Where sessions are opened.
const SESSION_PATH: &str = "/v1/ws";
/// Where messages are echoed, if configured.
const ECHO_PATH: &str = "/v1/echo";
/// One message of an echo connection: what conformance suites send.
const ECHO_MESSAGE_BYTES_MAX: u32 = 16 << 20;
/// Fragments of one message of an echo connection.
const ECHO_FRAGMENTS_MAX: u32 = 1 << 20;
/// A draining node that knows nobody who could have a session says when to come again, milliseconds: others have taken over
/// by then, or another process of its place has begun.
const DRAINING_RETRY_MS: u32 = 1_000;
/// Time for our last word to reach the peer.
const LAST_WORD: Duration = Duration::from_secs(2);

/// What kind of connection the head asked for.
enum Wanted {
    Session(Encoding, Option<Deflate>),
    Echo(Option<Deflate>),
    /// Page or API: not ours.
    Http,
    /// Refused; the answer is sent.
    Nothing,
}

/// What the client is to see if the deadline passes now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Tls,
    Http,
    Hello(Encoding),
}

/// What is kept of `Admitted` beside the socket.
struct Visitor {
    peer: SocketAddr,
    permit: AddressPermit,
    at_us: u64,
}

/// Does the whole handshake within the configured time, and hands the connection on.
pub(crate) async fn run(core: Rc<Core>, admitted: Admitted) {
    let Admitted {
        stream,
        peer,
        tls,
        permit,
        at_us,
    } = admitted;
    let Ok(mut connection) = Connection::new(stream) else {
        core.counters.inc(Counter::AcceptErrors);
        return;
    };
    let visitor = Visitor {
        peer,
        permit,
        at_us,
    };
    let mut phase = if tls.is_some() {
        Phase::Tls
    } else {
        Phase::Http
    };
    let deadline = Duration::from_millis(core.node.config.session.hello_ms);
    let steps = steps(&core, &mut connection, tls, &mut phase);
    match monoio::time::timeout(deadline, steps).await {
        Ok(Ok(Some(kind))) => hand_on(&core, connection, visitor, kind, phase).await,
        Ok(Ok(None)) => last_word(connection.finish()).await,
        Ok(Err(refusal)) => refuse(&core, &mut connection, phase, &refusal).await,
        Err(_elapsed) => {
            core.counters.inc(Counter::HandshakeTimeouts);
            time_out(&mut connection, phase).await;
        }
    }
}

/// What leaves the handshake.
enum Outcome {
    Http,
    WebSocket(Kind, ws::Decoder),
}

/// All steps; `None`: answered over HTTP and over.
async fn steps(
    core: &Core,
    connection: &mut Connection,
    tls: Option<std::sync::Arc<rustls::ServerConfig>>,
    phase: &mut Phase,
) -> Result<Option<Outcome>, Refusal> {
    if let Some(config) = tls {
        connection.accept_tls(config).await?;
        *phase = Phase::Http;
    }
    match head(core, connection).await? {
        Wanted::Nothing => Ok(None),
        Wanted::Http => Ok(Some(Outcome::Http)),
        Wanted::Echo(deflate) => {
            let limits = ws::Limits {
                message_bytes_max: ECHO_MESSAGE_BYTES_MAX,
                fragments_max: ECHO_FRAGMENTS_MAX,
            };
            let decoder = ws::Decoder::new(ws::Role::Server, limits).deflating(deflate);
            Ok(Some(Outcome::WebSocket(Kind::Echo, decoder)))
        }
        Wanted::Session(encoding, deflate) => {
            *phase = Phase::Hello(encoding);
            let decoder = ws::Decoder::new(ws::Role::Server, limits(encoding));
            let mut decoder = decoder.deflating(deflate);
            let greeting = hello::read(core, connection, &mut decoder, encoding).await?;
            if let Some(redirect) = redirect(core, connection.is_tls(), &greeting) {
                return Err(Refusal::Redirect(redirect));
            }
            if core.node.is_draining() {
                core.counters.inc(Counter::RefusedDraining);
                return Err(Refusal::draining(DRAINING_RETRY_MS));
            }
            Ok(Some(Outcome::WebSocket(
                Kind::Session(Box::new(greeting)),
                decoder,
            )))
        }
    }
}

/// To the node that owns the user's partition, if that is another one and the client can go there.
fn redirect(core: &Core, tls: bool, greeting: &Greeting) -> Option<pb::Redirect> {
    if greeting.hello.redirect_never {
        return None;
    }
    let node = &core.node;
    let partition = node.shards().partition(greeting.claims.user.as_str());
    let owner = node.owners.elsewhere(partition)?;
    let url = owner.url_for(tls || node.config.plain_anywhere)?;
    Some(pb::Redirect {
        url: url.to_owned(),
        map_version: node.owners.version(),
        jitter_ms: JITTER_MS,
    })
}

/// Bounds of one message of a session.
fn limits(encoding: Encoding) -> ws::Limits {
    let bytes = match encoding {
        Encoding::Binary => WS_MESSAGE_BYTES_MAX,
        Encoding::Json => WS_JSON_MESSAGE_BYTES_MAX,
    };
    ws::Limits {
        message_bytes_max: u32::try_from(bytes).unwrap_or(u32::MAX),
        ..ws::Limits::default()
    }
}

/// Reads the request's head, and answers the upgrade. A head that is for others stays in `plain`.
async fn head(core: &Core, connection: &mut Connection) -> Result<Wanted, Ended> {
    let (request, used) = loop {
        match Request::parse(&connection.plain) {
            Ok(Some(found)) => break found,
            Ok(None) => connection.more().await?,
            Err(error) => {
                let counter = if error.status() == 431 {
                    Counter::HttpHeadTooLarge
                } else {
                    Counter::HttpBad
                };
                core.counters.inc(counter);
                return deny(connection, error.status(), &error.to_string(), &[]).await;
            }
        }
    };
    let is_echo = request.path() == ECHO_PATH && core.node.config.echo;
    if request.path() != SESSION_PATH && !is_echo {
        if request.wants_websocket() {
            core.counters.inc(Counter::HttpPathUnknown);
            let text = "WebSocket is spoken on /v1/ws";
            return deny(connection, 404, text, &[]).await;
        }
        core.counters.inc(Counter::HttpRequests);
        return Ok(Wanted::Http);
    }
    let accepted = match judge(core, &request, is_echo) {
        Ok(accepted) => accepted,
        Err((status, text, headers)) => return deny(connection, status, &text, headers).await,
    };
    connection.plain.drain(..used);
    let protocol = accepted.protocol.filter(|_| !is_echo);
    let mut answer = Vec::new();
    http::switch(
        &accepted,
        protocol.map(|index| SUBPROTOCOLS[index]),
        &mut answer,
    );
    connection.write(&answer).await?;
    core.counters.inc(Counter::Upgrades);
    let deflate = accepted.deflate.map(|offer| offer.agreed);
    if deflate.is_some() {
        core.counters.inc(Counter::DeflateAgreed);
    }
    Ok(match protocol {
        _ if is_echo => Wanted::Echo(deflate),
        Some(0) => Wanted::Session(Encoding::Binary, deflate),
        _ => Wanted::Session(Encoding::Json, deflate),
    })
}

/// Status, text and headers of a refused upgrade.
type Denied = (u16, String, &'static [(&'static str, &'static str)]);

/// Whether a request for one of our two places is to be upgraded.
fn judge(core: &Core, request: &Request, is_echo: bool) -> Result<Accepted, Denied> {
    let mut accepted = http::upgrade(request, &SUBPROTOCOLS).map_err(|error| {
        core.counters.inc(Counter::HttpBad);
        (error.status(), error.to_string(), error.headers())
    })?;
    let mut origins = request
        .headers
        .iter()
        .filter(|h| h.name.eq_ignore_ascii_case("origin"));
    let origin = origins.next().map(|h| &*h.value);
    let node = &core.node;
    if !origin::allowed(origin, &node.config.origins, &node.ports) {
        core.counters.inc(Counter::OriginRefused);
        let text = "this Origin may not connect here (listen.origins)".to_owned();
        return Err((403, text, &[]));
    }
    if accepted.protocol.is_none() && !is_echo {
        core.counters.inc(Counter::SubprotocolRefused);
        let text = "offer the subprotocol hawser.v1 or hawser.v1+json (Sec-WebSocket-Protocol)";
        return Err((400, text.to_owned(), &[]));
    }
    // Among others a session is told where to go, once it has said who it is.
    if node.is_draining() && (is_echo || !node.owners.in_cluster()) {
        core.counters.inc(Counter::RefusedDraining);
        return Err((
            503,
            "this node drains; connect to another".to_owned(),
            &[("Retry-After", "1")],
        ));
    }
    if node.config.deflate.is_some() {
        accepted.deflate = http::deflate(request);
    }
    Ok(accepted)
}

/// Answers a request with no, which ends the connection.
async fn deny(
    connection: &mut Connection,
    status: u16,
    text: &str,
    headers: &[(&str, &str)],
) -> Result<Wanted, Ended> {
    let mut out = Vec::new();
    http::refuse(status, text, headers, &mut out);
    connection.write(&out).await?;
    Ok(Wanted::Nothing)
}

/// Gives the connection to whoever goes on with it.
async fn hand_on(
    core: &Rc<Core>,
    mut connection: Connection,
    visitor: Visitor,
    outcome: Outcome,
    phase: Phase,
) {
    let (kind, decoder) = match outcome {
        Outcome::Http => return to_control(core, connection, visitor),
        Outcome::WebSocket(kind, decoder) => (kind, decoder),
    };
    let Some(place) = core.node.take_place() else {
        core.counters.inc(Counter::RefusedSessions);
        let full = Refusal::overloaded(
            "this node holds its maximum of sessions",
            core.node.come_again_ms(),
        );
        refuse(core, &mut connection, phase, &full).await;
        return;
    };
    let owner = match &kind {
        Kind::Session(greeting) => core.node.shards().core(greeting.claims.user.as_str()) as usize,
        Kind::Echo => core.index(),
    };
    let now_us = core.node.clock.now_us();
    core.counters
        .observe(Histogram::HandshakeUs, now_us.saturating_sub(visitor.at_us));
    let arriving = arriving(connection, visitor, place, kind, decoder);
    if owner == core.index() {
        core.arrive_local(arriving);
        return;
    }
    core.counters.inc(Counter::Handovers);
    if let Err(full) = core.node.cores[owner].try_send(ToCore::Arrive(Box::new(arriving))) {
        core.counters.inc(Counter::HandoverQueueFull);
        if let ToCore::Arrive(back) = full.0 {
            let busy =
                Refusal::overloaded("the owner of this user is busy", core.node.come_again_ms());
            let mut connection = Connection::back(*back);
            if let Ok(connection) = &mut connection {
                refuse(core, connection, phase, &busy).await;
            }
        }
    }
}

fn arriving(
    connection: Connection,
    visitor: Visitor,
    place: SessionPermit,
    kind: Kind,
    decoder: ws::Decoder,
) -> Arriving {
    let parts = connection.into_parts();
    Arriving {
        stream: parts.stream,
        layer: parts.layer,
        undecrypted: parts.undecrypted,
        carried: parts.plain,
        decoder,
        peer: visitor.peer,
        permit: visitor.permit,
        place,
        kind,
    }
}

/// Page and API.
fn to_control(core: &Rc<Core>, connection: Connection, visitor: Visitor) {
    let parts = connection.into_parts();
    let connection = HttpConnection {
        stream: parts.stream,
        layer: parts.layer,
        undecrypted: parts.undecrypted,
        read: parts.plain,
        permit: visitor.permit,
    };
    if core.node.to_control(ToControl::Http(connection)) {
        core.counters.inc(Counter::HttpHandedOver);
    } else {
        core.counters.inc(Counter::ControlShed);
    }
}

/// Counts and tells.
async fn refuse(core: &Core, connection: &mut Connection, phase: Phase, refusal: &Refusal) {
    core.counters.inc(match refusal {
        Refusal::Ended(Ended::Tls) => Counter::TlsFailures,
        Refusal::Ended(Ended::Gone) if phase == Phase::Tls => Counter::TlsFailures,
        Refusal::Ended(Ended::Truncated) => Counter::TlsTruncated,
        Refusal::Ended(_) | Refusal::Closed(_) => Counter::HandshakeEof,
        Refusal::WebSocket(_) => Counter::WsProtocolErrors,
        Refusal::Redirect(_) => Counter::Redirected,
        Refusal::Told { close, .. } => match close {
            CloseCode::BadToken => Counter::AuthRefused,
            CloseCode::TokenExpired => Counter::AuthExpired,
            CloseCode::Revoked => Counter::AuthRevoked,
            CloseCode::DeviceMismatch => Counter::DeviceMismatch,
            // Counted where it was found.
            CloseCode::Overloaded => return tell(connection, phase, refusal).await,
            _ => Counter::HelloBad,
        },
    });
    tell(connection, phase, refusal).await;
}

async fn tell(connection: &mut Connection, phase: Phase, refusal: &Refusal) {
    if let Phase::Hello(encoding) = phase {
        last_word(refusal.tell(connection, encoding)).await;
    } else if *refusal != Refusal::Ended(Ended::Gone) {
        // TLS has sent its alert; the peer is to read it before the reset.
        last_word(connection.finish()).await;
    }
}

/// The deadline has passed: 408, or Error and 4202; within TLS there is nobody to tell.
async fn time_out(connection: &mut Connection, phase: Phase) {
    match phase {
        Phase::Tls => {}
        Phase::Http => {
            let answer = async {
                let text = "the head did not come within the deadline";
                if deny(connection, 408, text, &[]).await.is_ok() {
                    connection.finish().await;
                }
            };
            last_word(answer).await;
        }
        Phase::Hello(encoding) => {
            last_word(Refusal::too_slow().tell(connection, encoding)).await;
        }
    }
}

async fn last_word(word: impl Future<Output = ()>) {
    // A peer that does not read it is cut.
    let _ = monoio::time::timeout(LAST_WORD, word).await;
}
