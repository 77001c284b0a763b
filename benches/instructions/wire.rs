//! WebSocket frames, and TLS records.

use crate::case::{Case, Failed, count};
use crate::codec::BODIES;
use hawser_benches::{configs, handshake};
use hawser_wire::http::{ClientUpgrade, Request, client_request, upgrade};
use hawser_wire::record::{Layer, compact_client, compact_server};
use hawser_wire::ws::{Data, Decoder, Limits, OpCode, Role, apply_mask, encode};
use rustls::{ClientConfig, ServerConfig};
use std::hint::black_box;
use std::sync::Arc;

const BINARY: OpCode = OpCode::Data(Data::Binary);
const MASK: [u8; 4] = [0x51, 0xa3, 0x0e, 0xc7];
const ROUNDS: u32 = 64;

pub(crate) fn cases() -> Vec<Case> {
    let mut all = vec![http()];
    for (name, len) in BODIES {
        all.extend([mask(name, len), encoding(name, len), whole(name, len)]);
        all.extend([halves(name, len), seal(name, len), open(name, len)]);
    }
    all
}

fn mask(name: &str, len: usize) -> Case {
    Case::new(format!("ws/mask_{name}"), ROUNDS, move |rounds| {
        let mut bytes = vec![7; len];
        for _ in 0..rounds {
            count(|| apply_mask(black_box(&mut bytes), MASK, 1));
        }
        Ok(())
    })
}

fn encoding(name: &str, len: usize) -> Case {
    Case::new(format!("ws/encode_{name}"), ROUNDS, move |rounds| {
        let payload = vec![7; len];
        let mut out = Vec::with_capacity(len + 16);
        for _ in 0..rounds {
            out.clear();
            count(|| encode(BINARY, black_box(&payload), None, &mut out));
        }
        Ok(())
    })
}

fn masked(len: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    encode(BINARY, &vec![7; len], Some(MASK), &mut wire);
    wire
}

fn whole(name: &str, len: usize) -> Case {
    Case::new(format!("ws/decode_whole_{name}"), ROUNDS, move |rounds| {
        let wire = masked(len);
        let mut decoder = Decoder::new(Role::Server, Limits::default());
        for _ in 0..rounds {
            // It is unmasked in place.
            let mut input = wire.clone();
            let mut ok = false;
            count(|| ok = matches!(decoder.next(&mut input, &mut 0), Ok(Some(_))));
            ok.then_some(()).ok_or("no message")?;
        }
        Ok(())
    })
}

fn halves(name: &str, len: usize) -> Case {
    Case::new(format!("ws/decode_in_two_{name}"), ROUNDS, move |rounds| {
        let wire = masked(len);
        let mut decoder = Decoder::new(Role::Server, Limits::default());
        for _ in 0..rounds {
            let mut input = wire.clone();
            let (first, second) = input.split_at_mut(len / 2);
            let mut ok = false;
            count(|| {
                let begun = matches!(decoder.next(first, &mut 0), Ok(None));
                ok = begun && matches!(decoder.next(second, &mut 0), Ok(Some(_)));
            });
            ok.then_some(()).ok_or("no message")?;
        }
        Ok(())
    })
}

fn http() -> Case {
    Case::new("http/upgrade", ROUNDS, |rounds| {
        let mut head = Vec::new();
        let asked = ClientUpgrade {
            host: "chat.example:443",
            target: "/v1/ws",
            protocols: &["hawser.v1"],
            headers: &[
                ("Origin", "https://chat.example"),
                ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
            ],
            deflate: false,
            key: *b"the sample nonce",
        };
        client_request(&asked, &mut head);
        for _ in 0..rounds {
            let mut ok = false;
            count(|| {
                let request = Request::parse(black_box(&head)).ok().flatten();
                let offered = ["hawser.v1", "hawser.v1+json"];
                ok = request.is_some_and(|(request, _)| upgrade(&request, &offered).is_ok());
            });
            ok.then_some(()).ok_or("no upgrade")?;
        }
        Ok(())
    })
}

fn seal(name: &str, len: usize) -> Case {
    let case = Case::new(format!("tls/seal_{name}"), ROUNDS, move |rounds| {
        let payload = vec![7; len];
        let (_, mut server) = Ends::new()?.establish()?;
        let mut out = Vec::with_capacity(len + 64);
        // What is looked up once is not counted.
        server.seal(&payload, &mut out)?;
        for _ in 0..rounds {
            out.clear();
            let mut ok = false;
            count(|| ok = server.seal(black_box(&payload), &mut out).is_ok());
            ok.then_some(()).ok_or("not sealed")?;
        }
        Ok(())
    });
    case.by_processor()
}

fn open(name: &str, len: usize) -> Case {
    let case = Case::new(format!("tls/open_{name}"), ROUNDS, move |rounds| {
        let payload = vec![7; len];
        let (mut client, mut server) = Ends::new()?.establish()?;
        let (mut wire, mut plain, mut reply) = (Vec::new(), Vec::with_capacity(len), Vec::new());
        client.seal(&payload, &mut wire)?;
        server.open(&mut wire, &mut plain, &mut reply)?;
        for _ in 0..rounds {
            wire.clear();
            plain.clear();
            client.seal(&payload, &mut wire)?;
            let mut ok = false;
            count(|| ok = server.open(&mut wire, &mut plain, &mut reply).is_ok());
            (ok && plain == payload).then_some(()).ok_or("not opened")?;
        }
        Ok(())
    });
    case.by_processor()
}

/// Configurations of two ends whose established connections are what a node's are: the keys alone.
pub(crate) struct Ends(Arc<ClientConfig>, Arc<ServerConfig>);

impl Ends {
    /// With a certificate of their own.
    ///
    /// # Errors
    /// The certificate could not be made.
    pub(crate) fn new() -> Result<Self, Failed> {
        let (client, server) = configs()?;
        let (mut client, mut server) = ((*client).clone(), (*server).clone());
        compact_client(&mut client);
        compact_server(&mut server);
        Ok(Self(client.into(), server.into()))
    }

    /// One connection: the client's end and the server's.
    ///
    /// # Errors
    /// The ends did not agree, or one is not compact.
    pub(crate) fn establish(&self) -> Result<(Layer, Layer), Failed> {
        let ends = handshake(&self.0, &self.1)?;
        match ends {
            (Layer::Compact(_), Layer::Compact(_)) => Ok(ends),
            _ => Err("a layer is not compact".into()),
        }
    }
}
