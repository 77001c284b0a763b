//! Micro-benchmarks and recorded results: what one message costs in each codec.
//!
//! `cargo bench -p hawser-benches` runs them; `cargo bench -p hawser-benches -- deliver` those whose name says so.
//! [`rivals`] measures whole servers, Hawser and others, under one load; [`attacks`] Hawser beside floods and slow readers.

use std::sync::Arc;

use bytes::Bytes;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, IdError, MessageId, Seq, UserId};
use hawser_protocol::message::{MessageRecord, MessageType, Send};
use hawser_wire::record::{ClientHandshake, Layer, Progress, ServerHandshake};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, ServerName};

pub mod attacks;
pub mod rivals;

/// Bytes of a small message's body.
pub const SMALL: usize = 128;
/// Bytes of the body that capacity is planned with.
pub const LARGE: usize = 5_120;

/// A message record with a body of this many bytes.
///
/// # Errors
/// None: the ids are constants of the right form.
pub fn record(body: usize) -> Result<MessageRecord, IdError> {
    let (alice, bob) = (UserId::new("alice")?, UserId::new("bob")?);
    Ok(MessageRecord {
        seq: Seq::new(1, 77),
        prev_seq: Seq::new(1, 70),
        ordinal: 9,
        message_id: MessageId::derive(1_700_000_000_000, 1, 3, Seq::new(1, 77)),
        client_msg_id: ClientMsgId::new(1_700_000_000_000, [7; 10]),
        send_ts_ms: 1_700_000_000_000,
        stored_ts_ms: 1_700_000_000_005,
        message_type: MessageType::TEXT,
        chat: ChatId::dm(&alice, &bob),
        sender: alice,
        sender_device: DeviceId::new("phone")?,
        body: text(body),
    })
}

/// The Send that such a record is made of.
///
/// # Errors
/// None: as for [`record`].
pub fn send(body: usize) -> Result<Send, IdError> {
    let record = record(body)?;
    Ok(Send {
        client_msg_id: record.client_msg_id,
        send_ts_ms: record.send_ts_ms,
        message_type: record.message_type,
        retry: false,
        chat: record.chat,
        body: record.body,
        envelopes: Vec::new(),
    })
}

/// Plain text of this many bytes.
#[must_use]
pub fn text(bytes: usize) -> Bytes {
    b"The quick brown fox jumps over the lazy dog. "
        .iter()
        .copied()
        .cycle()
        .take(bytes)
        .collect()
}

/// A client's and a server's TLS 1.3 layer, established with each other over memory.
///
/// # Errors
/// The certificate could not be made.
pub fn layers() -> Result<(Layer, Layer), Box<dyn std::error::Error>> {
    let (client_config, server_config) = configs()?;
    handshake(&client_config, &server_config)
}

/// One whole handshake of both ends.
///
/// # Errors
/// The configurations do not fit each other.
pub fn handshake(
    client_config: &Arc<ClientConfig>,
    server_config: &Arc<ServerConfig>,
) -> Result<(Layer, Layer), Box<dyn std::error::Error>> {
    let name = ServerName::try_from("localhost")?;
    let mut client = ClientHandshake::new(Arc::clone(client_config), name)?;
    let mut server = ServerHandshake::new(Arc::clone(server_config))?;
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let mut progress = Progress::NeedMore;
    while progress == Progress::NeedMore {
        client.step(&mut to_client, &mut to_server)?;
        progress = server.step(&mut to_server, &mut to_client)?;
    }
    let (mut client, server) = (client.finish()?, server.finish()?);
    client.open(&mut to_client, &mut Vec::new(), &mut to_server)?;
    Ok((client, server))
}

/// Configurations of both ends with a self-made P-256 certificate.
///
/// # Errors
/// The certificate could not be made.
pub fn configs() -> Result<(Arc<ClientConfig>, Arc<ServerConfig>), Box<dyn std::error::Error>> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(signing_key.serialize_der())?,
        )?;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone())?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((Arc::new(client), Arc::new(server)))
}
