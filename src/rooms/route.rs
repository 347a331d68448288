//! Which dialect an upgrade request asks for: the one table of it. Until the other dialects are there, only what can be jamjam's
//! is let in.

use thiserror::Error;

/// What the request's path and query decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The first message that is understood will decide.
    Undecided,
}

/// Why an upgrade is refused; the status is 404.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No dialect is spoken there.
    #[error("no rooms are at this path; connect to / or /ws")]
    Path,
    /// The query asks for a dialect that is not there yet.
    #[error("the query belongs to a dialect that this version does not speak")]
    Query,
}

/// Decides by the request's `path` and `query`. With `any_path` every path is taken for `/`.
pub fn route(path: &str, query: &str, any_path: bool) -> Result<Route, Refusal> {
    if any_path {
        return Ok(Route::Undecided);
    }
    if !matches!(path, "/" | "/ws" | "/ws/") {
        return Err(Refusal::Path);
    }
    let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    let others = ["roomId", "userId", "userName", "room", "token"];
    if names.into_iter().any(|name| others.contains(&name)) { Err(Refusal::Query) } else { Ok(Route::Undecided) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_path_is_undecided_and_what_belongs_to_others_is_refused() {
        for path in ["/", "/ws", "/ws/"] {
            assert_eq!(route(path, "", false), Ok(Route::Undecided));
            assert_eq!(route(path, "x=1&y", false), Ok(Route::Undecided));
        }
        for query in ["roomId=r&userId=u&userName=n", "x=1&token=t", "room=radio"] {
            assert_eq!(route("/", query, false), Err(Refusal::Query));
        }
        for path in ["/radio", "/rooms/radio", "/v1/signaling", "/wsx", ""] {
            assert_eq!(route(path, "", false), Err(Refusal::Path));
            assert_eq!(route(path, "token=t", true), Ok(Route::Undecided));
        }
    }
}
