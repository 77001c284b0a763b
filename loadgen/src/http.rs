//! One question and its answer over HTTP/1.1, on a connection of its own.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use hawser_wire::http::Response;

/// Sends a whole request, which asks for the connection to be closed behind the answer. Returns the answer's status and its body, of
/// `bytes_max` bytes at most, head included. `deadline` is for the connection, and for each read.
///
/// # Errors
/// No connection, or what came is no whole head of an answer.
pub(crate) fn exchange(
    authority: &str,
    request: &str,
    deadline: Duration,
    bytes_max: u64,
) -> std::io::Result<(u16, String)> {
    let invalid = |what: &'static str| Error::new(ErrorKind::InvalidData, what);
    let address = authority
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| invalid("no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, deadline)?;
    stream.set_read_timeout(Some(deadline))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(bytes_max).read_to_end(&mut answer)?;
    let (response, used) = Response::parse(&answer)
        .map_err(|_| invalid("no HTTP answer"))?
        .ok_or_else(|| invalid("a truncated answer"))?;
    let body = answer.get(used..).unwrap_or_default();
    Ok((response.status, String::from_utf8_lossy(body).into_owned()))
}
