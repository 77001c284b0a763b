//! Frames and records: bytes to messages and back.

use crate::case::{Case, Failed, count};
use bytes::Bytes;
use hawser_benches::{record, send};
use hawser_protocol::frame::{Ack, ClientFrame, DeliverFlags, MessageView, deliver_prefix, split};
use hawser_protocol::ids::UserId;
use hawser_protocol::json;
use hawser_protocol::record::{DeliveryRecord, DeliveryView, Recipients, ViewKind};
use std::hint::black_box;

/// Bodies of a small message and of the one that capacity is planned with, bytes.
pub(crate) const BODIES: [(&str, usize); 2] = [("200b", 200), ("5kb", 5_120)];

const ROUNDS: u32 = 64;

pub(crate) fn cases() -> Vec<Case> {
    let mut all = vec![ack(), prefix(), recipients()];
    for (name, body) in BODIES {
        all.extend([
            Case::new(format!("codec/encode_send_{name}"), ROUNDS, move |rounds| {
                let frame = ClientFrame::Send(send(body)?);
                let mut out = Vec::with_capacity(2 * body + 512);
                for _ in 0..rounds {
                    out.clear();
                    count(|| black_box(&frame).encode(&mut out));
                }
                Ok(())
            }),
            Case::new(format!("codec/decode_send_{name}"), ROUNDS, move |rounds| {
                let bytes = encoded(&ClientFrame::Send(send(body)?));
                for _ in 0..rounds {
                    decode(&bytes)?;
                }
                Ok(())
            }),
            Case::new(
                format!("codec/decode_send_json_{name}"),
                ROUNDS,
                move |rounds| {
                    let text = json::encode_client(&ClientFrame::Send(send(body)?));
                    for _ in 0..rounds {
                        let mut ok = false;
                        count(|| {
                            let frame = json::decode_client(black_box(&text));
                            ok = frame.is_ok();
                            frame
                        });
                        ok.then_some(()).ok_or("no Send")?;
                    }
                    Ok(())
                },
            ),
            Case::new(
                format!("codec/encode_deliver_json_{name}"),
                ROUNDS,
                move |rounds| {
                    let encoded = record(body)?.encode();
                    let view = MessageView::parse(&encoded)?;
                    for _ in 0..rounds {
                        count(|| json::deliver(7, DeliverFlags::default(), &[], black_box(&view)));
                    }
                    Ok(())
                },
            ),
            Case::new(format!("codec/view_record_{name}"), ROUNDS, move |rounds| {
                let encoded = record(body)?.encode();
                for _ in 0..rounds {
                    count(|| MessageView::parse(black_box(&encoded)).map(|view| view.seq()));
                }
                Ok(())
            }),
        ]);
    }
    all
}

fn encoded(frame: &ClientFrame) -> Bytes {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes.into()
}

/// Decodes a message of one frame, and counts that.
fn decode(bytes: &Bytes) -> Result<(), Failed> {
    let mut ok = false;
    count(|| {
        let mut message = black_box(bytes).clone();
        let frame = split(&mut message)
            .ok()
            .flatten()
            .map(|raw| ClientFrame::decode(&raw));
        ok = matches!(frame, Some(Ok(_)));
        frame
    });
    Ok(ok.then_some(()).ok_or("it was not decoded")?)
}

fn ack() -> Case {
    Case::new("codec/decode_ack", ROUNDS, |rounds| {
        let bytes = encoded(&ClientFrame::Ack(Ack { offset: 77 }));
        for _ in 0..rounds {
            decode(&bytes)?;
        }
        Ok(())
    })
}

fn prefix() -> Case {
    Case::new("codec/deliver_prefix", ROUNDS, |rounds| {
        for _ in 0..rounds {
            let flags = DeliverFlags::default();
            count(|| deliver_prefix(black_box(7), flags, black_box(0), black_box(5_120)));
        }
        Ok(())
    })
}

/// One more recipient in the list of a delivery record, as it is read.
fn recipients() -> Case {
    Case::one_more("codec/read_recipient", [100, 1_000], ROUNDS, |users| {
        let value = delivery(users, 200)?.encode();
        let mut seen = 0;
        for _ in 0..ROUNDS {
            count(|| seen += listed(&value).map_or(0, Iterator::count));
        }
        (seen == (users * ROUNDS) as usize)
            .then_some(())
            .ok_or("not all were read")?;
        Ok(())
    })
}

fn listed(value: &[u8]) -> Option<Recipients<'_>> {
    match DeliveryView::parse(black_box(value)).ok()?.kind {
        ViewKind::Message(message) => Some(message.recipients()),
        _ => None,
    }
}

/// A message to so many users, with a body of so many bytes; the sender is none of them.
pub(crate) fn delivery(users: u32, body: usize) -> Result<DeliveryRecord, Failed> {
    use hawser_protocol::record::{Audience, DeliveryKind};

    let record = record(body)?;
    let users: Result<Vec<UserId>, _> = (0..users).map(user).collect();
    Ok(DeliveryRecord {
        source_partition: 3,
        source_seq: record.seq,
        sub_index: 0,
        kind: DeliveryKind::Message {
            recipients: Audience::Listed(users?),
            record: record.encode(),
            envelopes: Vec::new(),
            sender_entry: None,
        },
    })
}

/// The n-th of many users.
pub(crate) fn user(n: u32) -> Result<UserId, Failed> {
    Ok(UserId::new(&format!("user-{n:06}"))?)
}
