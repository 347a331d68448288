//! The pages for people, and their files. A page is a file that fills itself with a script from the JSON of this server.

use std::sync::Arc;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;

use crate::io::http::body::{self, PAGE_STYLE, page_response};
use crate::io::signaling::http_state::HttpState;

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

pub(super) const OPEN: bool = false;
pub(super) const LOGIN: bool = true;

/// Path, media type, whether the page needs the login of the operator, and content. Scripts and styles contain no data, so they are open.
pub(super) const PAGES: [(&str, &str, bool, &str); 23] = [
    ("/", HTML, OPEN, include_str!("pages/start.html")),
    ("/console", HTML, LOGIN, include_str!("pages/console.html")),
    ("/docs", HTML, LOGIN, include_str!("pages/docs.html")),
    ("/docs/messages", HTML, OPEN, include_str!("pages/messages.html")),
    // The start page lists the examples.
    ("/examples", HTML, OPEN, include_str!("pages/start.html")),
    ("/examples/jamjam", HTML, OPEN, include_str!("pages/jamjam.html")),
    ("/examples/webrtc", HTML, OPEN, include_str!("pages/webrtc.html")),
    ("/examples/broadcast", HTML, OPEN, include_str!("pages/broadcast.html")),
    ("/examples/control-surface", HTML, OPEN, include_str!("pages/control-surface.html")),
    ("/static/icon.svg", "image/svg+xml", OPEN, include_str!("pages/icon.svg")),
    // The rules that the reports of runs also have, which the others import.
    ("/static/page.css", STYLE, OPEN, PAGE_STYLE),
    ("/static/style.css", STYLE, OPEN, include_str!("pages/style.css")),
    ("/static/docs.css", STYLE, OPEN, include_str!("pages/docs.css")),
    ("/static/docs.js", SCRIPT, OPEN, include_str!("pages/docs.js")),
    ("/static/shared.js", SCRIPT, OPEN, include_str!("pages/shared.js")),
    ("/static/start.js", SCRIPT, OPEN, include_str!("pages/start.js")),
    ("/static/console.js", SCRIPT, OPEN, include_str!("pages/console.js")),
    ("/static/messages.js", SCRIPT, OPEN, include_str!("pages/messages.js")),
    ("/static/jamjam.js", SCRIPT, OPEN, include_str!("pages/jamjam.js")),
    ("/static/webrtc.js", SCRIPT, OPEN, include_str!("pages/webrtc.js")),
    ("/static/broadcast.js", SCRIPT, OPEN, include_str!("pages/broadcast.js")),
    ("/static/control-surface.js", SCRIPT, OPEN, include_str!("pages/control-surface.js")),
    ("/static/control-surface-host.js", SCRIPT, OPEN, include_str!("pages/control-surface-host.js")),
];

/// The routes of the pages that need the login, or of the others.
pub(super) fn routes(with_login: bool) -> OpenApiRouter<Arc<HttpState>> {
    let pages = PAGES.into_iter().filter(|(_, _, needs_login, _)| *needs_login == with_login);
    pages.fold(OpenApiRouter::new(), |router, (path, kind, _, content)| {
        router.route(path, get(async move || page_response(kind, content)))
    })
}

/// A file of Swagger UI that `/docs` needs.
pub(super) async fn swagger_ui_file(Path(name): Path<String>) -> Response {
    let kind = match &*name {
        "swagger-ui-bundle.js" => SCRIPT,
        "swagger-ui.css" => STYLE,
        _ => return body::not_found(),
    };
    let Some(bytes) = swagger_ui_gzip(&name) else { return body::not_found() };
    ([(header::CONTENT_ENCODING, "gzip")], page_response(kind, bytes)).into_response()
}

/// Reads a compressed file from the ZIP archive of Swagger UI.
///
/// A gzip file (RFC 1952) is a DEFLATE stream, as which the archive contains the file, between a header and the checksum and size of the
/// content. So nothing is decompressed or compressed. Each file of this archive follows a header with its lengths.
fn swagger_ui_gzip(name: &str) -> Option<Vec<u8>> {
    let suffix = format!("/dist/{name}");
    let mut archive = SWAGGER_UI_VENDORED;
    while let Some((header, rest)) =
        archive.split_at_checked(30).filter(|(header, _)| header.starts_with(b"PK\x03\x04"))
    {
        let number = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let length = number(18) | number(20) << 16;
        let (path, rest) = rest.split_at_checked(number(26))?;
        let (content, rest) = rest.get(number(28)..)?.split_at_checked(length)?;
        if path.ends_with(suffix.as_bytes()) {
            // DEFLATE, no optional fields, no modification time, no compression level, unknown operating system. The checksum and the size follow.
            let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff], content, &header[14..18], &header[22..26]];
            return Some(gzip.concat());
        }
        archive = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// Functions and attributes that run text as code, insert text as markup, or load files from elsewhere. The content security policy of the
    /// pages forbids inline code and other hosts.
    const FORBIDDEN: &str = "innerHTML outerHTML insertAdjacentHTML setHTML srcdoc DOMParser createContextualFragment document.write eval( \
                             Function( javascript: style= <style onclick onload ://cdn url( @import =\"http =\"//";

    #[test]
    fn every_file_is_free_of_unsafe_markup() {
        for (path, _, _, content) in PAGES {
            // A namespace is a name, which is not loaded. One style is in two files of this server.
            let text = content.replace("xmlns=\"http", "").replace("@import \"page.css\"", "");
            for forbidden in FORBIDDEN.split(' ') {
                assert!(!text.contains(forbidden), "{path}: {forbidden}");
            }
            // Each script element loads a file of this server.
            let scripts = text.matches("<script").count();
            assert_eq!(scripts, text.matches("<script src=\"/static/").count(), "{path}");
        }
    }

    /// `gzip` also verifies the checksum and the size.
    #[test]
    fn files_of_swagger_ui_are_gzip() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x.gz");
        for (name, content) in [("swagger-ui-bundle.js", "SwaggerUIBundle"), ("swagger-ui.css", ".swagger-ui")] {
            fs::write(&file, swagger_ui_gzip(name).expect("a file of the archive")).expect("a written file");
            let output = Command::new("gzip").args(["--decompress", "--stdout"]).arg(&file).output();
            let output = output.expect("the program gzip is installed");
            assert!(output.status.success(), "{name}: {output:?}");
            assert!(String::from_utf8(output.stdout).expect("UTF-8").contains(content), "{name}");
        }
        assert!(swagger_ui_gzip("missing.js").is_none());
    }
}
