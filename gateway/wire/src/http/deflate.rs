//! permessage-deflate in the opening handshake (RFC 7692 sections 5 and 7.1), both ends.

use super::head::items;
use super::{Request, Response};
use crate::ws::Deflate;

/// What a client of ours offers: no context in either direction.
pub(super) const OFFER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT: &str = "client_no_context_takeover";
const SERVER_BITS: &str = "server_max_window_bits";
const CLIENT_BITS: &str = "client_max_window_bits";

/// An offer that can be honoured, and so the answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateOffer {
    /// What both ends do from now on.
    pub agreed: Deflate,
    /// The client spoke of the server's window, and is to be answered.
    window_asked: bool,
}

impl DeflateOffer {
    /// The value of Sec-WebSocket-Extensions.
    #[must_use]
    pub fn answer(self) -> String {
        match self.window_asked {
            false => OFFER.to_owned(),
            true => format!("{OFFER}; {SERVER_BITS}={}", self.agreed.window_bits()),
        }
    }
}

/// The first of a client's offers that can be honoured. One that is malformed, or says something twice or unknown, is
/// declined, which is no error: the connection is then as if it had not been made. That no context is kept in either
/// direction is the server's to decide; of the client's window nothing is asked.
#[must_use]
pub fn deflate(request: &Request) -> Option<DeflateOffer> {
    items(&request.headers, "sec-websocket-extensions").find_map(offer)
}

fn offer(text: &str) -> Option<DeflateOffer> {
    let [server_no, client_no, server_bits, client_bits] = parameters(text)?;
    let is_flag = |value: Option<Option<&str>>| value.is_none_or(|value| value.is_none());
    if !is_flag(server_no) || !is_flag(client_no) {
        return None;
    }
    if let Some(Some(value)) = client_bits {
        window(value)?;
    }
    Some(DeflateOffer {
        agreed: match server_bits {
            None => Deflate::default(),
            Some(value) => window(value?)?,
        },
        window_asked: server_bits.is_some(),
    })
}

/// What a server made of [`OFFER`]; `Err`: something that was not offered.
pub(super) fn answered(response: &Response) -> Result<Option<Deflate>, ()> {
    let mut answers = items(&response.headers, "sec-websocket-extensions");
    let Some(answer) = answers.next() else {
        return Ok(None);
    };
    match (parameters(answer), answers.next()) {
        (Some([Some(None), Some(None), None, None]), None) => Ok(Some(Deflate::default())),
        _ => Err(()),
    }
}

/// The value of each parameter, by its place: not there, without a value, with one.
fn parameters(text: &str) -> Option<[Option<Option<&str>>; 4]> {
    let names = [
        SERVER_NO_CONTEXT,
        CLIENT_NO_CONTEXT,
        SERVER_BITS,
        CLIENT_BITS,
    ];
    let mut found = [None; 4];
    let mut parts = text.split(';').map(str::trim);
    if parts.next() != Some(NAME) {
        return None;
    }
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start())?)),
            None => (part, None),
        };
        let place = names.iter().position(|known| *known == name)?;
        if found[place].replace(value).is_some() {
            return None;
        }
    }
    Some(found)
}

/// A value may stand in quotation marks.
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    }
}

/// 8 to 15, without a zero before it.
fn window(value: &str) -> Option<Deflate> {
    let sound = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    Deflate::with_window_bits(value.parse().ok().filter(|_| sound)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[&str]) -> Request {
        let mut head = "GET / HTTP/1.1\r\nHost: h\r\n".to_owned();
        for value in headers {
            head.push_str(&format!("Sec-WebSocket-Extensions: {value}\r\n"));
        }
        head.push_str("\r\n");
        Request::parse(head.as_bytes()).unwrap().unwrap().0
    }

    fn answer(headers: &[&str]) -> Option<String> {
        deflate(&request(headers)).map(DeflateOffer::answer)
    }

    #[test]
    fn every_sound_offer_is_answered_without_context() {
        for (offer, window) in [
            ("permessage-deflate", None),
            ("permessage-deflate; client_max_window_bits", None),
            ("permessage-deflate;client_max_window_bits=8", None),
            ("permessage-deflate; client_max_window_bits=\"15\"", None),
            ("permessage-deflate; server_no_context_takeover", None),
            (OFFER, None),
            ("permessage-deflate; server_max_window_bits=15", Some(15)),
            ("permessage-deflate; server_max_window_bits=8", Some(8)),
            (
                "permessage-deflate ; server_max_window_bits = \"10\" ; client_no_context_takeover",
                Some(10),
            ),
            (
                "permessage-deflate; client_max_window_bits; server_max_window_bits=9; \
                 client_no_context_takeover; server_no_context_takeover",
                Some(9),
            ),
        ] {
            let expected = match window {
                None => OFFER.to_owned(),
                Some(bits) => format!("{OFFER}; server_max_window_bits={bits}"),
            };
            assert_eq!(answer(&[offer]), Some(expected), "{offer}");
            let agreed = deflate(&request(&[offer])).unwrap().agreed;
            assert_eq!(agreed.window_bits(), window.unwrap_or(15));
        }
    }

    #[test]
    fn what_is_malformed_twice_or_unknown_is_declined() {
        for offer in [
            "",
            "x-webkit-deflate-frame",
            "permessage-deflate-2",
            "Permessage-deflate=1",
            "permessage-deflate;",
            "permessage-deflate; ; client_max_window_bits",
            "permessage-deflate; unknown",
            "permessage-deflate; mux=1",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=true",
            "permessage-deflate; client_no_context_takeover=",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=08",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=9.0",
            "permessage-deflate; server_max_window_bits=\"9",
            "permessage-deflate; server_max_window_bits=9\"",
            "permessage-deflate; server_max_window_bits=300",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=015",
            "permessage-deflate; client_max_window_bits=abc",
        ] {
            assert_eq!(answer(&[offer]), None, "{offer:?}");
        }
        assert_eq!(answer(&[]), None);
    }

    #[test]
    fn the_first_offer_that_can_be_honoured_is_chosen() {
        let bits = |headers: &[&str]| deflate(&request(headers)).map(|o| o.agreed.window_bits());
        let fallback = "permessage-deflate; server_max_window_bits=10, permessage-deflate";
        assert_eq!(bits(&[fallback]), Some(10));
        let declined = "permessage-deflate; server_max_window_bits=16, permessage-deflate";
        assert_eq!(bits(&[declined]), Some(15));
        let unknown = "foo; bar=1, permessage-deflate; server_max_window_bits=12";
        assert_eq!(bits(&[unknown]), Some(12));
        // Over several headers as over one.
        let many = [
            "foo",
            "permessage-deflate; x",
            "permessage-deflate; server_max_window_bits=11",
        ];
        assert_eq!(bits(&many), Some(11));
    }

    #[test]
    fn a_client_takes_no_answer_but_one_to_its_offer() {
        let judge = |values: &[&str]| {
            let mut head = "HTTP/1.1 101 x\r\n".to_owned();
            for value in values {
                head.push_str(&format!("Sec-WebSocket-Extensions: {value}\r\n"));
            }
            head.push_str("\r\n");
            answered(&Response::parse(head.as_bytes()).unwrap().unwrap().0)
        };
        assert_eq!(judge(&[]), Ok(None));
        assert_eq!(judge(&[OFFER]), Ok(Some(Deflate::default())));
        for more in ["server_max_window_bits=10", "client_max_window_bits=10", ""] {
            let answer = format!("{OFFER}; {more}");
            assert_eq!(judge(&[&answer]), Err(()), "{answer}");
        }
        let less = "permessage-deflate; server_no_context_takeover";
        for answers in [
            vec!["permessage-deflate"],
            vec![less],
            vec!["x"],
            vec![OFFER, OFFER],
        ] {
            assert_eq!(judge(&answers), Err(()), "{answers:?}");
        }
    }
}
