//! A server that speaks as much of Cassandra's protocol as it takes to refuse a log-in.
#![allow(clippy::unwrap_used, reason = "a test may panic, its makers too")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

const ERROR: u8 = 0x00;
const AUTHENTICATE: u8 = 0x03;
const OPTIONS: u8 = 0x05;
const SUPPORTED: u8 = 0x06;
const STARTUP: u8 = 0x01;
const BAD_CREDENTIALS: i32 = 0x0100;

/// Listens on a free port; its address. Ends with the process.
pub(crate) fn refuse_logins() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(mut stream: TcpStream) -> Option<()> {
    loop {
        // version, flags, stream (2), opcode, length (4)
        let mut header = [0; 9];
        stream.read_exact(&mut header).ok()?;
        let length = u32::from_be_bytes(*header.last_chunk()?) as usize;
        std::io::copy(&mut (&stream).take(length as u64), &mut std::io::sink()).ok()?;
        let (opcode, body) = match header[4] {
            OPTIONS => (SUPPORTED, 0_u16.to_be_bytes().to_vec()),
            STARTUP => (
                AUTHENTICATE,
                text("org.apache.cassandra.auth.PasswordAuthenticator"),
            ),
            _ => {
                let mut body = BAD_CREDENTIALS.to_be_bytes().to_vec();
                body.extend(text("Provided username and/or password are incorrect"));
                (ERROR, body)
            }
        };
        let mut answer = vec![0x84, 0, header[2], header[3], opcode];
        answer.extend(u32::try_from(body.len()).ok()?.to_be_bytes());
        answer.extend(body);
        stream.write_all(&answer).ok()?;
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut out = u16::try_from(text.len())
        .unwrap_or(0)
        .to_be_bytes()
        .to_vec();
    out.extend(text.as_bytes());
    out
}
