//! Origins of pages, as browsers tell them in the `Origin` header (RFC 6454, section 6.1).

/// An origin as browsers write it: without a path, and without the port that its scheme has anyway, since they send neither and
/// would never match. `null` is the origin of pages from files.
pub fn parse(text: &str) -> Result<String, String> {
    let text = text.trim();
    // Nothing between two commas is no mistake.
    if text.is_empty() || text == "null" {
        return Ok(text.to_owned());
    }
    let mistake = |what: &str| Err(format!("{what}; give scheme and host, such as https://www.example.org"));
    let Some((scheme, rest)) = text.split_once("://") else { return mistake("it has no scheme") };
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(is_scheme) {
        return mistake("it has no scheme");
    }
    // What an address bar has at its end, and no other path could be meant.
    let place = rest.strip_suffix('/').unwrap_or(rest);
    if place.contains(['/', '?', '#']) {
        return mistake("a path is no part of an origin");
    }
    if !place.is_ascii() {
        return mistake("browsers send such a name in its ASCII form (xn--)");
    }
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (place, None),
    };
    let is_address = host.starts_with('[') && host.ends_with(']');
    let is_odd = |letter: char| letter.is_ascii_whitespace() || letter.is_control() || "@*,:[]".contains(letter);
    if host.is_empty() || !is_address && host.contains(is_odd) {
        return mistake("it has no host that could be meant");
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return mistake("its port is no number up to 65535");
    }
    let usual = match &*scheme.to_ascii_lowercase() {
        "http" | "ws" => Some("80"),
        "https" | "wss" => Some("443"),
        _ => None,
    };
    Ok(match port {
        Some(port) if Some(port) != usual => format!("{scheme}://{host}:{port}"),
        _ => format!("{scheme}://{host}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_browsers_send_and_nothing_else_is_one() {
        for (given, origin) in [
            ("https://a.example", "https://a.example"),
            (" https://a.example/ ", "https://a.example"),
            ("https://a.example:443", "https://a.example"),
            ("http://a.example:80/", "http://a.example"),
            ("http://a.example:443", "http://a.example:443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://[::1]", "http://[::1]"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("null", "null"),
            ("", ""),
        ] {
            assert_eq!(parse(given).as_deref(), Ok(origin), "{given}");
        }
        for wrong in [
            "a.example",
            "a.example:443",
            "//a.example",
            "://a.example",
            "https://",
            "https:///",
            "https://a.example//",
            "https://a.example/x",
            "https://a.example?x",
            "https://a.example#x",
            "https://*.a.example",
            "https://u@a.example",
            "https://a b",
            "https://ü.example",
            "https://a.example:65536",
            "https://a.example:",
            "https://a:b:1",
            "*",
        ] {
            assert!(parse(wrong).is_err_and(|why| why.contains("such as https://")), "{wrong}");
        }
    }
}
