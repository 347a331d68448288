//! Request and response bodies. Provides JSON responses, error responses (always `{"error": "..."}`) and embedded pages with security
//! headers. Limits the size of request bodies and reads JSON objects field by field.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use thiserror::Error;
use utoipa::ToSchema;

use crate::io::connection_permit::ConnectionPermit;
use crate::memory_budget::OverBudget;
use crate::signaling::MAX_VISUALIZATION_VALUES;

/// The body of every error response.
#[derive(Serialize, ToSchema)]
pub(in crate::io) struct ErrorBody<'a> {
    /// The error, in one sentence.
    error: &'a str,
}

/// The body of a `429 Too Many Requests` response.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::io) struct TooManyRequestsBody<'a> {
    error: &'a str,
    /// Seconds until the next request is accepted; also in `Retry-After`.
    retry_after: u64,
}

/// A response with `body` as JSON.
pub fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    json_text_response(status, to_json(body).into())
}

/// A response with a body that is already JSON.
pub fn json_text_response(status: StatusCode, json: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// A body as JSON.
pub fn to_json(body: &impl Serialize) -> String {
    serde_json::to_string(body).unwrap_or_else(|error| {
        unreachable!("a body of strings, numbers and lists must be serializable as JSON: {error}")
    })
}

/// A response with the JSON body `{"error": error}`.
pub fn error_response(status: StatusCode, error: &str) -> Response {
    json_response(status, &ErrorBody { error })
}

/// A `429 Too Many Requests` response with `Retry-After`.
pub fn too_many_requests(error: &str, wait: Duration) -> Response {
    // Rounded up, so that a client does not retry too early.
    let seconds = wait.as_secs() + 1;
    let body = TooManyRequestsBody { error, retry_after: seconds };
    let mut response = json_response(StatusCode::TOO_MANY_REQUESTS, &body);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The 404 response.
pub fn not_found() -> Response {
    error_response(StatusCode::NOT_FOUND, "Not found")
}

/// The 405 response. The caller or the router adds the `Allow` header.
pub fn method_not_allowed() -> Response {
    error_response(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
}

/// Style sheet shared by all embedded pages. Each page appends its own rules.
pub const PAGE_STYLE: &str = include_str!("page.css");

/// Content security policy of all pages. A page loads only the resources that its own directives allow. A page cannot
/// be displayed in a frame. A page cannot submit forms.
const CSP_DEFAULT: &str = "default-src 'none'";
const CSP_ALWAYS: &str = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A response with an embedded page or asset. `allowed` contains additional directives of the policy (CSP level 3). Semicolons
/// separate the directives.
pub fn page_response(kind: &'static str, allowed: &str, body: impl Into<Body>) -> Response {
    let policy = format!("{CSP_DEFAULT}; {allowed}; {CSP_ALWAYS}");
    let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(CSP_DEFAULT));
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    let mut response = Response::new(body.into());
    response.headers_mut().extend(headers);
    response
}

/// Why a request body is rejected.
#[derive(Debug, Error, PartialEq)]
pub(in crate::io) enum BodyError {
    #[error("The body may have at most {0} bytes")]
    TooLarge(usize),
    #[error("The body is incomplete or malformed")]
    Incomplete,
    #[error("The body is not JSON: {0}")]
    InvalidJson(String),
    #[error("{0}")]
    InvalidField(String),
    #[error("Not enough memory now")]
    Memory(#[from] OverBudget),
}

impl BodyError {
    /// The status of the response.
    pub(in crate::io) fn status(&self) -> StatusCode {
        match self {
            Self::InvalidJson(_) | Self::Incomplete => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Memory(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::InvalidField(_) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }
}

/// Maximum number of bytes of a rejected body that are still read. Closing a connection with unread data sends a reset. A client that is
/// still sending might then never read the response.
const MAX_DRAIN_BYTES: usize = 1 << 20;

/// Reads a body of at most `max_bytes`, which holds its memory until it is dropped. It takes memory for its `Content-Length`, or for `max_bytes`, before it arrives. If it is rejected
/// and the request has an `Expect` header (`100-continue`), the body is not read at all.
pub(in crate::io) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    max_bytes: usize,
    permit: &ConnectionPermit,
) -> Result<Bytes, BodyError> {
    let length = body.size_hint().exact().unwrap_or(max_bytes as u64);
    let mut chunks = body.into_data_stream();
    let taken = if length > max_bytes as u64 {
        Err(BodyError::TooLarge(max_bytes))
    } else {
        permit.take_for_body(length).map_err(BodyError::from)
    };
    let memory = match taken {
        Ok(memory) => memory,
        Err(error) => {
            if !headers.contains_key(header::EXPECT) {
                tokio::spawn(drain(chunks));
            }
            return Err(error);
        }
    };
    let mut bytes = Vec::with_capacity(length as usize);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| BodyError::Incomplete)?;
        if bytes.len() + chunk.len() > max_bytes {
            tokio::spawn(drain(chunks));
            return Err(BodyError::TooLarge(max_bytes));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(memory.attach(bytes))
}

/// Discards the rest of a rejected body, within [`MAX_DRAIN_BYTES`] and the connection's own time limit.
async fn drain(mut chunks: BodyDataStream) {
    let mut discarded = 0;
    while discarded <= MAX_DRAIN_BYTES
        && let Some(Ok(chunk)) = chunks.next().await
    {
        discarded += chunk.len();
    }
}

/// The type of a field: its description in errors, and its parser.
pub(in crate::io) struct FieldType<T> {
    description: &'static str,
    parse: fn(&Value) -> Option<T>,
}

pub(in crate::io) const TEXT: FieldType<String> =
    FieldType { description: "a string", parse: |value| value.as_str().map(str::to_owned) };

pub(in crate::io) const NUMBER: FieldType<f32> = FieldType { description: "a finite 32-bit number", parse: number };

/// Visualization data.
pub(in crate::io) const NUMBERS: FieldType<Vec<f32>> = FieldType {
    description: "a list of at most 65536 finite 32-bit numbers",
    parse: |value| value.as_array().filter(|list| list.len() <= MAX_VISUALIZATION_VALUES)?.iter().map(number).collect(),
};

/// Maximum number of clients in a room.
pub(in crate::io) const MAX_CLIENTS: FieldType<usize> = FieldType {
    description: "a whole number from 1 to 1000000",
    parse: |value| value.as_u64().filter(|count| (1..=1_000_000).contains(count)).map(|count| count as usize),
};

/// Lifetime of a room.
pub(in crate::io) const SECONDS: FieldType<f64> = FieldType {
    description: "a number of seconds from 1 to 315360000 (ten years)",
    parse: |value| value.as_f64().filter(|seconds| (1.0..=315_360_000.0).contains(seconds)),
};

fn number(value: &Value) -> Option<f32> {
    value.as_f64().map(|value| value as f32).filter(|value| value.is_finite())
}

/// The fields of a JSON object that have not been read yet.
#[derive(Debug)]
pub(in crate::io) struct JsonFields(Map<String, Value>);

impl JsonFields {
    pub(in crate::io) fn parse(body: &[u8]) -> Result<Self, BodyError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(BodyError::InvalidField("The body must be a JSON object".to_owned())),
            // The body is valid JSON, but nested too deeply, or a number exceeds the float range.
            Err(error) if serde_json::from_slice::<IgnoredAny>(body).is_ok() => {
                Err(BodyError::InvalidField(format!("The body has an unusable value: {error}")))
            }
            Err(error) => Err(BodyError::InvalidJson(error.to_string())),
        }
    }

    /// An optional field; null counts as absent.
    pub(in crate::io) fn optional<T>(&mut self, name: &str, field_type: &FieldType<T>) -> Result<Option<T>, BodyError> {
        let Some(value) = self.0.remove(name).filter(|value| !value.is_null()) else { return Ok(None) };
        let parsed = (field_type.parse)(&value);
        parsed.map(Some).ok_or_else(|| BodyError::InvalidField(format!("{name:?} must be {}", field_type.description)))
    }

    /// A required field.
    pub(in crate::io) fn required<T>(&mut self, name: &str, field_type: &FieldType<T>) -> Result<T, BodyError> {
        let value = self.optional(name, field_type)?;
        value.ok_or_else(|| {
            BodyError::InvalidField(format!("{name:?} is missing; it must be {}", field_type.description))
        })
    }

    /// Rejects unknown fields. If a misspelled `room` were ignored, the command would apply to all rooms.
    pub(in crate::io) fn finish(self) -> Result<(), BodyError> {
        self.0.keys().next().map_or(Ok(()), |name| {
            let name: String = name.chars().take(64).collect();
            Err(BodyError::InvalidField(format!("{name:?} is not a known field")))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::ready;
    use std::net::IpAddr;
    use std::sync::Arc;

    use futures_util::stream;
    use proptest::prelude::*;

    use super::*;
    use crate::io::connection_permit::{ConnectionLimiter, ConnectionLimits, REQUEST_HEAD_BYTES};
    use crate::memory_budget::MemoryBudget;

    fn error_text(result: Result<impl Sized, BodyError>) -> String {
        result.err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn errors_name_the_field() {
        let of = |body: &str| JsonFields::parse(body.as_bytes()).expect("an object");
        assert_eq!(of(r#"{"name":"a"}"#).required("name", &TEXT), Ok("a".to_owned()));
        assert_eq!(error_text(of("{}").required("name", &TEXT)), r#""name" is missing; it must be a string"#);
        assert_eq!(
            error_text(of(r#"{"name":null}"#).required("name", &TEXT)),
            r#""name" is missing; it must be a string"#
        );
        assert_eq!(error_text(of(r#"{"name":1}"#).optional("name", &TEXT)), r#""name" must be a string"#);
        assert_eq!(of(r#"{"room":null}"#).optional("room", &TEXT), Ok(None));
        assert_eq!(error_text(of(r#"{"rom":1}"#).finish()), r#""rom" is not a known field"#);
        for body in ["", "{", "nonsense", r#"{"value":NaN}"#, r#"{"value":Infinity}"#, r#"{"value":.5}"#, "{}{}"] {
            assert!(matches!(JsonFields::parse(body.as_bytes()), Err(BodyError::InvalidJson(_))), "{body}");
        }
        for body in ["[]", "1", "null", r#""text""#, r#"{"value":1e999}"#, &("[".repeat(200) + &"]".repeat(200))] {
            assert!(matches!(JsonFields::parse(body.as_bytes()), Err(BodyError::InvalidField(_))), "{body}");
        }
    }

    #[tokio::test]
    async fn body_holds_its_length_or_the_maximum_and_is_refused_beyond_the_budget() {
        let heads = 3 * REQUEST_HEAD_BYTES;
        let budget = MemoryBudget::new(Some(heads + 1_000));
        let memory_budget = Arc::clone(&budget);
        let limits = ConnectionLimits { memory_budget, bytes_per_connection: 0, ..ConnectionLimits::default() };
        let limiter = ConnectionLimiter::new(limits);
        let connect = async || limiter.assign(limiter.acquire().await, IpAddr::from([127, 0, 0, 1])).expect("a permit");
        let [one, two, three] = [connect().await, connect().await, connect().await];
        let read = async |permit, body, max_bytes| read_body(&HeaderMap::new(), body, max_bytes, permit).await;
        let chunked = |len| Body::from_stream(stream::once(ready(Ok::<_, Infallible>(vec![b'x'; len]))));
        let known = read(&one, Body::from(vec![b'x'; 400]), 500).await.expect("within the budget");
        let unknown = read(&two, chunked(400), 450).await.expect("within the budget");
        assert_eq!((known.len(), unknown.len(), budget.held()), (400, 400, heads + 850));
        for (body, error) in [
            (Body::from(vec![b'x'; 200]), BodyError::Memory(OverBudget)),
            (chunked(1), BodyError::Memory(OverBudget)),
            (Body::from(vec![b'x'; 501]), BodyError::TooLarge(500)),
        ] {
            assert_eq!(read(&three, body, 500).await.map(drop), Err(error));
        }
        assert_eq!(read(&three, chunked(101), 100).await.map(drop), Err(BodyError::TooLarge(100)));
        drop((known, unknown));
        assert_eq!((budget.held(), budget.refused()), (heads, 2));
    }

    proptest! {
        #[test]
        fn any_body_is_parsed_or_rejected(text in r#"[\[\]{}":,0-9eE.\-a-f\PC]{0,40}"#, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            for body in [text.as_bytes(), &bytes] {
                let Ok(mut fields) = JsonFields::parse(body) else { continue };
                prop_assert!(fields.optional("a", &NUMBER).is_ok_and(|value| value.is_none_or(f32::is_finite)) || body.contains(&b'a'));
                let _ = fields.finish();
            }
        }
    }

    #[test]
    fn numbers_outside_f32_are_rejected() {
        let of = |value: &str| JsonFields::parse(format!("{{\"value\":{value}}}").as_bytes()).expect("an object");
        for (text, value) in
            [("0.7", 0.7_f32), ("-1", -1.0), ("1e38", 1e38), ("3.4028234e38", f32::MAX), ("1e-60", 0.0)]
        {
            assert_eq!(of(text).required("value", &NUMBER), Ok(value), "{text}");
        }
        for text in ["1e39", "-3.5e38", "\"1\"", "true", "[]", "{}", "\"NaN\""] {
            assert!(of(text).required("value", &NUMBER).is_err(), "{text}");
        }
        let list = |len: usize| format!("[{}]", vec!["1"; len].join(","));
        assert_eq!(of(&list(65_536)).required("value", &NUMBERS).map(|list| list.len()), Ok(65_536));
        for text in [&*list(65_537), "[1,1e39]", "[null]", "1"] {
            assert!(of(text).required("value", &NUMBERS).is_err());
        }
        for text in ["0", "-1", "1.5", "1000001", "\"1\""] {
            assert!(of(text).required("value", &MAX_CLIENTS).is_err(), "{text}");
        }
        for text in ["0", "0.5", "-1", "315360001", "\"1\""] {
            assert!(of(text).required("value", &SECONDS).is_err(), "{text}");
        }
        assert_eq!((of("1").required("value", &MAX_CLIENTS), of("1.5").required("value", &SECONDS)), (Ok(1), Ok(1.5)));
    }
}
