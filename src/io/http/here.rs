//! Pages for this machine alone. Listening on loopback is not enough: another site's page can have its own name lead there
//! (DNS rebinding), and then reads what it finds. A browser says in `Host` which name that was.

use std::net::IpAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;

use super::answer;
use super::same_site::{only, place};

/// Answers only who asks for this machine by a name or address that always leads to it.
pub fn alone(router: Router) -> Router {
    router.layer(from_fn(async |request: Request, next: Next| -> Response {
        if is_here(request.headers()) {
            return next.run(request).await;
        }
        let error = "This is for this machine alone: ask for it as localhost, 127.0.0.1 or [::1]";
        answer::refusal(StatusCode::MISDIRECTED_REQUEST, error)
    }))
}

/// Whether the one `Host` is loopback, whatever the port: somebody may have forwarded one.
fn is_here(headers: &HeaderMap) -> bool {
    let Some((host, _)) = only(headers, header::HOST).ok().flatten().and_then(|host| place(host, 80)) else {
        return false;
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(hosts: &[&str]) -> bool {
        is_here(&hosts.iter().map(|host| (header::HOST, host.parse().expect("a value"))).collect())
    }

    #[test]
    fn only_names_that_always_lead_here_are_here() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "[::1]"] {
            assert!(asked(&[host]), "{host}");
        }
        for host in [
            "",
            ":8080",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "localhost.:8080",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "192.0.2.1:8080",
            "0.0.0.0:8080",
            "[::]:8080",
            "[::ffff:192.0.2.1]:8080",
            "localhost:99999",
            "localhost, evil.example",
        ] {
            assert!(!asked(&[host]), "{host}");
        }
        assert!(!asked(&[]) && !asked(&["localhost", "localhost"]) && !asked(&["localhost", "evil.example"]));
    }
}
