//! What the example pages need over HTTP.

use super::login::RIGHT;
use crate::signaling_server::start_with_password;
use test_support::server::request;

#[test]
fn qr_code_is_an_image_without_the_url_in_its_markup() {
    let server = start_with_password(&[]);
    let path = "/examples/qr.svg?url=http://music.example:8080/examples/control-surface%3Froom=4711";
    let response = request(&server, "GET", path, &[RIGHT]);
    assert_eq!((response.status, response.header("content-type")), (200, "image/svg+xml"));
    assert!(response.body.starts_with("<?xml") && response.body.ends_with("</svg>"), "{}", response.body);
    assert!(!response.body.contains("music.example"), "{}", response.body);
}
