//! Listening sockets: one per core and address, sharing the port.

use crate::node::config::{Listener, SocketLimits};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

/// Why an address cannot be listened on: the operator's to solve.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there.
    #[error(
        "{addr} is taken by another program; choose another address in [listen], or stop that program"
    )]
    Taken {
        /// Which.
        addr: SocketAddr,
    },
    /// Plain text beyond loopback.
    #[error(
        "{addr} is not loopback and has no TLS; use listen.wss, or set listen.plain_anywhere = true behind a proxy that ends TLS"
    )]
    PlainBeyondLoopback {
        /// Which.
        addr: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {addr}: {source}")]
    Io {
        /// Which.
        addr: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
}

/// One core's socket for one listener.
pub(crate) struct Bound {
    pub(crate) socket: TcpListener,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
}

/// Binds every listener once per core; the answer is indexed by core. Addresses come back with
/// their real ports.
///
/// # Errors
/// See [`BindError`]; nothing stays bound.
pub(crate) fn bind_all(
    listeners: &[Listener],
    cores: usize,
    plain_anywhere: bool,
    limits: &SocketLimits,
) -> Result<(Vec<Vec<Bound>>, Vec<SocketAddr>), BindError> {
    let mut by_core: Vec<Vec<Bound>> = (0..cores).map(|_| Vec::new()).collect();
    let mut addrs = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let mut addr = listener.addr;
        if listener.tls.is_none() && !addr.ip().is_loopback() && !plain_anywhere {
            return Err(BindError::PlainBeyondLoopback { addr });
        }
        if addr.port() != 0 {
            // A shared port would join a stranger's listeners without a word: ask for it alone first.
            drop(bind(addr, false, limits).map_err(|e| explain(addr, e))?);
        }
        for sockets in &mut by_core {
            let socket = bind(addr, true, limits).map_err(|e| explain(addr, e))?;
            addr = socket.local_addr().map_err(|e| explain(addr, e))?;
            sockets.push(Bound {
                socket,
                tls: listener.tls.clone(),
            });
        }
        addrs.push(addr);
    }
    Ok((by_core, addrs))
}

fn bind(addr: SocketAddr, shared: bool, limits: &SocketLimits) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if limits.send_buffer_bytes > 0 {
        // Accepted sockets inherit it.
        socket.set_send_buffer_size(limits.send_buffer_bytes)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(limits.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn explain(addr: SocketAddr, source: io::Error) -> BindError {
    if source.kind() == io::ErrorKind::AddrInUse {
        BindError::Taken { addr }
    } else {
        BindError::Io { addr, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config::NodeConfig;

    fn plain(addr: &str) -> Listener {
        Listener {
            addr: addr.parse().expect("an address"),
            tls: None,
        }
    }

    #[test]
    fn every_core_gets_a_socket_on_the_same_port() {
        let limits = NodeConfig::default().socket;
        let (by_core, addrs) =
            bind_all(&[plain("127.0.0.1:0")], 3, false, &limits).expect("a free port");
        assert_eq!(by_core.len(), 3);
        for sockets in &by_core {
            assert_eq!(sockets[0].socket.local_addr().expect("bound"), addrs[0]);
        }
    }

    #[test]
    fn a_taken_port_is_named_although_ports_are_shared() {
        let limits = NodeConfig::default().socket;
        let (_held, addrs) =
            bind_all(&[plain("127.0.0.1:0")], 1, false, &limits).expect("a free port");
        let again = Listener {
            addr: addrs[0],
            tls: None,
        };
        let Err(err) = bind_all(&[again], 1, false, &limits) else {
            panic!("taken")
        };
        assert!(matches!(err, BindError::Taken { addr } if addr == addrs[0]));
    }

    #[test]
    fn plain_text_beyond_loopback_is_refused() {
        let limits = NodeConfig::default().socket;
        let result = bind_all(&[plain("0.0.0.0:0")], 1, false, &limits);
        assert!(matches!(result, Err(BindError::PlainBeyondLoopback { .. })));
        assert!(bind_all(&[plain("0.0.0.0:0")], 1, true, &limits).is_ok());
    }
}
