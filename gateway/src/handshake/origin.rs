//! Which web pages may open a WebSocket here: browsers send cookies and reach loopback from any page, so
//! an Origin that is not allowed is refused before the upgrade.

/// Whether a request with this Origin may be upgraded. No Origin: no browser, not concerned.
/// `allowed` are the operator's (`*` for any); `own_ports` are those that this node listens on, whose
/// loopback pages are its own.
pub(super) fn allowed(origin: Option<&[u8]>, allowed: &[String], own_ports: &[u16]) -> bool {
    let Some(origin) = origin else {
        return true;
    };
    let Ok(origin) = std::str::from_utf8(origin) else {
        return false;
    };
    let listed =
        |entry: &String| entry == "*" || entry.trim_end_matches('/').eq_ignore_ascii_case(origin);
    allowed.iter().any(listed) || own_loopback_page(origin, own_ports)
}

/// `http://127.0.0.1:8080` and its like, on a port of this node.
fn own_loopback_page(origin: &str, own_ports: &[u16]) -> bool {
    let (authority, default_port) = match origin.split_once("://") {
        Some(("http", authority)) => (authority, 80),
        Some(("https", authority)) => (authority, 443),
        _ => return false,
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, digits)) if !digits.ends_with(']') => {
            let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
            let Some(port) = digits.parse().ok().filter(|_| all_digits) else {
                return false;
            };
            (host, port)
        }
        _ => (authority, default_port),
    };
    matches!(host, "127.0.0.1" | "localhost" | "[::1]") && own_ports.contains(&port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(origin: &str, list: &[&str]) -> bool {
        let list: Vec<String> = list.iter().map(|s| (*s).to_owned()).collect();
        allowed(Some(origin.as_bytes()), &list, &[8080, 8443, 80])
    }

    #[test]
    fn no_origin_is_no_browser() {
        assert!(allowed(None, &[], &[]));
    }

    #[test]
    fn own_loopback_pages_are_allowed() {
        for origin in [
            "http://127.0.0.1:8080",
            "http://localhost:8080",
            "http://[::1]:8080",
            "https://127.0.0.1:8443",
            "http://localhost",
        ] {
            assert!(judge(origin, &[]), "{origin}");
        }
    }

    #[test]
    fn strangers_are_refused_however_they_dress() {
        for origin in [
            "null",
            "",
            "http://127.0.0.1:3000",
            "http://127.0.0.1.evil.example:8080",
            "http://evil.example:8080",
            "http://127.0.0.1:8080.evil.example",
            "http://127.0.0.1:+8080",
            "http://user@127.0.0.1:8080",
            "file://127.0.0.1:8080",
            "http://127.0.0.1:8080/",
            "http://127.0.0.1:99999",
            "http://localhost:",
            "https://localhost",
            "http://[::1",
        ] {
            assert!(!judge(origin, &[]), "{origin}");
        }
        assert!(!allowed(Some(b"http://\xff"), &[], &[8080]));
    }

    #[test]
    fn listed_origins_are_allowed_and_their_neighbours_are_not() {
        let list = ["https://chat.example", "https://other.example/"];
        assert!(judge("https://chat.example", &list));
        assert!(judge("https://other.example", &list));
        assert!(!judge("http://chat.example", &list));
        assert!(!judge("https://chat.example.evil", &list));
        assert!(judge("https://anything.example", &["*"]));
    }
}
