//! The device headers against golden vectors (`fixtures/link/vectors.json`).

use std::collections::HashMap;

use http::{HeaderMap, HeaderValue};
use jamjam_signaling::device::{DeviceKey, verify};
use serde_json::{Value, json};
use test_support::link_vectors::{key, list, vectors};

/// The headers of an entry of the vectors.
fn headers(entry: &Value) -> HeaderMap {
    let headers: HashMap<String, String> = serde_json::from_value(entry["headers"].clone()).expect("texts");
    HeaderMap::try_from(&headers).expect("valid names and values")
}

fn unix_seconds(device: &Value) -> u64 {
    device["at_unix_seconds"].as_u64().expect("a time")
}

const NOT_A_NUMBER: &str = "x-device-timestamp is not a decimal number";

/// The error about a header that is missing or repeated.
fn missing(name: &str) -> String {
    format!("the request needs exactly one header {name}")
}

#[test]
fn signed_device_headers_equal_the_golden_headers() {
    let device = &vectors()["device_headers"];
    let signed = DeviceKey::from_seed(&key(device, "secret")).headers(unix_seconds(device));
    assert_eq!(json!(HashMap::from(signed)), device["headers"]);
}

#[test]
fn golden_device_headers_are_accepted_within_300_s() {
    let device = &vectors()["device_headers"];
    let (headers, at) = (headers(device), unix_seconds(device));
    for now in [at - 300, at, at + 300] {
        for is_required in [false, true] {
            assert_eq!(verify(&headers, now, is_required).map(|device| device.is_some()), Ok(true), "at {now}");
        }
    }
    let clock = "x-device-timestamp differs by 301 s from the server's clock, which is more than 300 s";
    assert_eq!(verify(&headers, at - 301, false), Err(clock.to_owned()));
    assert_eq!(verify(&headers, at + 301, false), Err(clock.to_owned()));
    // Requests without any of the headers are rejected only if these are required.
    let none = HeaderMap::new();
    assert_eq!(verify(&none, at, false), Ok(None));
    assert_eq!(verify(&none, at, true), Err(missing("x-device-id")));
}

#[test]
fn every_rejected_vector_of_device_headers_is_rejected() {
    let device = &vectors()["device_headers"];
    let rejected = list(device, "rejected");
    assert_eq!(rejected.len(), 14);
    for entry in rejected {
        let verified = verify(&headers(entry), unix_seconds(device), false).map(drop);
        let why = entry["why"].as_str().expect("a reason");
        let expected: fn(String) -> bool = match why.split_once(' ') {
            Some(("id", _) | ("public", "key of another device, id kept")) => {
                |error| error == "x-device-id is not the id of x-device-pubkey"
            }
            Some(("timestamp", "not a number")) => |error| error == NOT_A_NUMBER,
            Some((_, "missing")) => |error| error.starts_with("the request needs exactly one header x-device-"),
            _ => |error| error == "x-device-signature is not a signature of x-device-timestamp by x-device-pubkey",
        };
        assert!(verified.clone().is_err_and(expected), "{why}: {verified:?}");
    }
}

#[test]
fn repeated_header_or_signed_number_is_rejected() {
    let device = &vectors()["device_headers"];
    let (headers, at) = (headers(device), unix_seconds(device));
    for name in headers.keys() {
        let mut repeated = headers.clone();
        repeated.append(name, headers[name].clone());
        let rejected = verify(&repeated, at, false);
        assert_eq!(rejected, Err(missing(name.as_str())));
    }
    let mut with_sign = headers;
    with_sign.insert("x-device-timestamp", HeaderValue::from_static("+1800000000"));
    assert_eq!(verify(&with_sign, at, false), Err(NOT_A_NUMBER.to_owned()));
}
