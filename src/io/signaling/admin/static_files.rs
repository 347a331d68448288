//! `/static/…`: the scripts, styles and images of the pages. They contain no data, so they are public.

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;

use crate::io::http::body::{self, PAGE_STYLE, page_response};

const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Content security policy. A file is not a page of its own.
const CSP: &str = "script-src 'none'";

/// Name, media type and content. A style sheet begins with the rules that all pages share.
const FILES: [(&str, &str, &[&str]); 15] = [
    ("icon.svg", "image/svg+xml", &[include_str!("pages/icon.svg")]),
    ("start.css", STYLE, &[PAGE_STYLE, include_str!("pages/start.css")]),
    ("console.css", STYLE, &[PAGE_STYLE, include_str!("pages/console.css")]),
    ("console.js", SCRIPT, &[include_str!("pages/console.js")]),
    ("docs.css", STYLE, &[include_str!("pages/docs.css")]),
    ("docs.js", SCRIPT, &[include_str!("pages/docs.js")]),
    ("messages.css", STYLE, &[PAGE_STYLE, include_str!("pages/messages.css")]),
    ("messages.js", SCRIPT, &[include_str!("pages/messages.js")]),
    ("examples.css", STYLE, &[PAGE_STYLE, include_str!("examples/style.css")]),
    ("shared.js", SCRIPT, &[include_str!("examples/shared.js")]),
    ("jamjam.js", SCRIPT, &[include_str!("examples/jamjam.js")]),
    ("webrtc.js", SCRIPT, &[include_str!("examples/webrtc.js")]),
    ("broadcast.js", SCRIPT, &[include_str!("examples/broadcast.js")]),
    ("control-surface.js", SCRIPT, &[include_str!("examples/control-surface.js")]),
    ("control-surface-host.js", SCRIPT, &[include_str!("examples/control-surface-host.js")]),
];

/// Files of Swagger UI that `/docs` needs, with their media types.
const SWAGGER_UI_FILES: [(&str, &str); 4] = [
    ("swagger-ui-bundle.js", "text/javascript"),
    ("swagger-ui.css", "text/css"),
    ("favicon-16x16.png", "image/png"),
    ("favicon-32x32.png", "image/png"),
];

/// Files of the pages
#[utoipa::path(
    get, path = "/static/{file}", operation_id = "staticFile", tag = "documentation",
    params(("file" = String, Path, description = "File name, for example `console.js`")),
    responses((status = 200, description = "A script, a style or an image"), (status = 404, description = "No such file")),
)]
pub(super) async fn static_file(Path(name): Path<String>) -> Response {
    if let Some((_, kind, parts)) = FILES.iter().find(|(file, ..)| *file == name) {
        return page_response(kind, CSP, parts.concat());
    }
    let Some((file, kind)) = SWAGGER_UI_FILES.into_iter().find(|(file, _)| *file == name) else {
        return body::not_found();
    };
    let Some((bytes, is_gzip)) = swagger_ui_bytes(file) else { return body::not_found() };
    let encoding = is_gzip.then_some([(header::CONTENT_ENCODING, "gzip")]);
    (encoding, page_response(kind, CSP, bytes)).into_response()
}

/// Reads a file from the ZIP archive of Swagger UI. Returns its bytes, and whether they are compressed with gzip.
///
/// A gzip file (RFC 1952) is a DEFLATE stream, as which the archive contains a compressed file, between a header and the checksum and size of
/// the content. So nothing is decompressed or compressed. Each file of this archive follows a header with its lengths.
fn swagger_ui_bytes(name: &str) -> Option<(Vec<u8>, bool)> {
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
            let is_stored = number(8) == 0;
            // DEFLATE, no optional fields, no modification time, no compression level, unknown operating system. The checksum and the size follow.
            let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff], content, &header[14..18], &header[22..26]];
            return Some(if is_stored { (content.to_vec(), false) } else { (gzip.concat(), true) });
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

    /// `gzip` also verifies the checksum and the size.
    #[test]
    fn files_of_swagger_ui_are_gzip_or_stored_images() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x.gz");
        for (name, content) in [("swagger-ui-bundle.js", "SwaggerUIBundle"), ("swagger-ui.css", ".swagger-ui")] {
            let (bytes, is_gzip) = swagger_ui_bytes(name).expect("a file of the archive");
            assert!(is_gzip, "{name}");
            fs::write(&file, bytes).expect("a written file");
            let output = Command::new("gzip").args(["--decompress", "--stdout"]).arg(&file).output();
            let output = output.expect("the program gzip is installed");
            assert!(output.status.success(), "{name}: {output:?}");
            assert!(String::from_utf8(output.stdout).expect("UTF-8").contains(content), "{name}");
        }
        // Images are not compressed.
        for name in ["favicon-16x16.png", "favicon-32x32.png"] {
            let (bytes, is_gzip) = swagger_ui_bytes(name).expect("a file of the archive");
            assert!(!is_gzip && bytes.starts_with(b"\x89PNG"), "{name}");
        }
        assert!(swagger_ui_bytes("missing.js").is_none());
    }
}
