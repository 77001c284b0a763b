//! Fuzz targets for every parser, and a stable-toolchain smoke run of them.
//!
//! A target takes any bytes and panics where a promise is broken: a parser that panics, two readers of the same bytes that
//! disagree, what was encoded and decodes to something else. `tests/smoke.rs` runs every target on its seeds and on
//! mutations of them; a failure prints the seed that repeats it.

pub mod deflate;
pub mod frames;
pub mod http;
pub mod mutate;
pub mod records;
pub mod tls;
pub mod ws;

/// One parser under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// As in the smoke test's output.
    pub name: &'static str,
    /// Panics where a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that reach deep; mutations start from them.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "ws_server",
        run: ws::server,
        seeds: ws::client_streams,
    },
    Target {
        name: "ws_client",
        run: ws::client,
        seeds: ws::server_streams,
    },
    Target {
        name: "ws_deflated",
        run: deflate::streams,
        seeds: deflate::client_streams,
    },
    Target {
        name: "inflate",
        run: deflate::payloads,
        seeds: deflate::compressed,
    },
    Target {
        name: "http_head",
        run: http::head,
        seeds: http::heads,
    },
    Target {
        name: "client_frames",
        run: frames::client,
        seeds: frames::client_frames,
    },
    Target {
        name: "server_frames",
        run: frames::server,
        seeds: frames::server_frames,
    },
    Target {
        name: "client_json",
        run: frames::client_json,
        seeds: frames::client_texts,
    },
    Target {
        name: "server_json",
        run: frames::server_json,
        seeds: frames::server_texts,
    },
    Target {
        name: "records",
        run: records::records,
        seeds: records::encoded,
    },
    Target {
        name: "resume_token",
        run: records::resume_token,
        seeds: records::tokens,
    },
    Target {
        name: "tls_handshake",
        run: tls::handshake,
        seeds: tls::flights,
    },
    Target {
        name: "tls_open",
        run: tls::open,
        seeds: tls::edits,
    },
    Target {
        name: "tls_sealed",
        run: tls::sealed,
        seeds: tls::contents,
    },
];
