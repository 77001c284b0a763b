//! Sans-IO WebSocket codec, HTTP upgrade and TLS record layer, both ends.
//!
//! Bytes in, bytes and messages out: no socket, no clock, no thread, no noun of the product. Peers' bytes never
//! reach an assertion; every buffer has a bound.
//!
//! - [`ws`]: RFC 6455 frames. The decoder of an idle connection holds no buffer; whole messages are unmasked in place
//!   and borrowed.
//! - [`http`]: the HTTP/1.1 upgrade, as server and as client.
//! - [`record`]: TLS (rustls, unbuffered) as a handshake driver and a record layer; plain TCP behind the same trait.

#![forbid(unsafe_code)]

pub mod http;
pub mod record;
pub mod ws;
