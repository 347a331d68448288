//! The start page at `/`, and the lines that the servers log at startup.

use crate::signaling_server::start_with_password;
use test_support::server::{Server, get};

#[test]
fn start_page_is_public_and_links_to_all_pages() {
    let server = start_with_password(&[]);
    let page = get(&server, "/").body;
    for link in ["/console", "/docs", "/docs/messages", "/examples/jamjam", "/health", "/rooms"] {
        assert!(page.contains(&format!("href=\"{link}\"")), "{link}: {page}");
    }
}

#[test]
fn start_lines_name_the_urls_of_an_unspecified_address_and_a_command() {
    let mut server = Server::start_signaling(&["--host", "0.0.0.0"]);
    let port = server.address.port();
    let urls = server.line_starting_with("signaling: serving urls=").message;
    assert!(urls.contains(&format!("ws://127.0.0.1:{port}")) && !urls.contains("0.0.0.0:"), "{urls}");
    let pages = server.line_starting_with("http: serving pages ").message;
    let base = format!("http://127.0.0.1:{port}");
    assert_eq!(pages, format!("http: serving pages start={base}/ console={base}/console docs={base}/docs"));
    let command = server.line_starting_with("signaling: run this to test the server command=").message;
    let command = command.split('"').nth(1).unwrap();
    assert_eq!(command, format!("jamjam-dev probe --to ws://127.0.0.1:{port}"));
}
