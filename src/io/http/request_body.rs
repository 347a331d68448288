//! Query parameters, and request bodies: their size and memory are limited, and JSON is parsed as the type that also describes it in the
//! `OpenAPI` document.

use axum::body::{BodyDataStream, Bytes, HttpBody};
use axum::extract::{FromRequest, RawQuery, Request};
use axum::http::{StatusCode, header};
use futures_util::StreamExt;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::io::http::ConnectionInfo;
use crate::io::http::body::RequestError;

/// The first value of a query parameter.
pub(in crate::io) fn query_value(RawQuery(query): &RawQuery, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes());
    pairs.find(|(given, _)| given == name).map(|(_, value)| value.into_owned())
}

/// Maximum number of bytes of a rejected body that are still read. Closing a connection with unread data sends a reset. A client that is
/// still sending might then never read the response.
const MAX_DRAIN_BYTES: usize = 1 << 20;

/// Reads the body of a request, of at most `max_bytes`, which holds its memory until it is dropped. It takes memory for its
/// `Content-Length`, or for `max_bytes`, before it arrives. If it is rejected and the request has an `Expect` header (`100-continue`), the
/// body is not read at all.
pub(in crate::io) async fn read_body(request: Request, max_bytes: usize) -> Result<Request<Bytes>, RequestError> {
    let (parts, body) = request.into_parts();
    let client: Option<&ConnectionInfo> = parts.extensions.get();
    let client = client.unwrap_or_else(|| unreachable!("each request must have the information of its connection"));
    let length = body.size_hint().exact().unwrap_or(max_bytes as u64);
    let mut chunks = body.into_data_stream();
    let taken = if length > max_bytes as u64 {
        Err(RequestError::too_large(max_bytes))
    } else {
        client.permit.take_for_body(length).map_err(RequestError::from)
    };
    let memory = match taken {
        Ok(memory) => memory,
        Err(error) => {
            if !parts.headers.contains_key(header::EXPECT) {
                tokio::spawn(drain(chunks));
            }
            return Err(error);
        }
    };
    let mut bytes = Vec::with_capacity(length as usize);
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|_| RequestError::new(StatusCode::BAD_REQUEST, "The body is incomplete or malformed"))?;
        if bytes.len() + chunk.len() > max_bytes {
            tokio::spawn(drain(chunks));
            return Err(RequestError::too_large(max_bytes));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Request::from_parts(parts, memory.attach(bytes)))
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

/// Maximum length of the body of an operator's request, of which the data of a visualization may be this long.
const MAX_JSON_BYTES: usize = 2 << 20;

/// A request body of the operator: a JSON object with the fields of `T`.
pub(in crate::io) struct JsonBody<T>(pub(in crate::io) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = RequestError;

    async fn from_request(request: Request, _: &S) -> Result<Self, RequestError> {
        parse_json(read_body(request, MAX_JSON_BYTES).await?.body()).map(Self)
    }
}

/// Parses a JSON object. Text that is not JSON is distinguished from JSON without the fields of `T`.
pub(in crate::io) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, RequestError> {
    // serde would also accept an array of the fields' values.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let mut json = serde_json::Deserializer::from_slice(body);
    let error = match serde_path_to_error::deserialize(&mut json) {
        _ if !is_object => "The body must be a JSON object".to_owned(),
        Ok(parsed) if json.end().is_ok() => return Ok(parsed),
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    match serde_json::from_slice::<IgnoredAny>(body) {
        Ok(_) => Err(RequestError::invalid_field(error)),
        Err(error) => Err(RequestError::new(StatusCode::BAD_REQUEST, format!("The body is not JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::ready;
    use std::net::{IpAddr, SocketAddr};
    use std::sync::Arc;

    use axum::body::Body;
    use futures_util::stream;
    use tokio::sync::watch;

    use super::*;
    use crate::io::connection_permit::{ConnectionLimiter, ConnectionLimits, ConnectionPermit, REQUEST_HEAD_BYTES};
    use crate::memory_budget::{MemoryBudget, OverBudget};

    #[tokio::test]
    async fn body_holds_its_length_or_the_maximum_and_is_refused_beyond_the_budget() {
        let heads = 3 * REQUEST_HEAD_BYTES;
        let budget = MemoryBudget::new(Some(heads + 1_000));
        let memory_budget = Arc::clone(&budget);
        let limits = ConnectionLimits { memory_budget, bytes_per_connection: 0, ..ConnectionLimits::default() };
        let limiter = ConnectionLimiter::new(limits);
        let connect = async || {
            let permit = limiter.assign(limiter.acquire().await, IpAddr::from([127, 0, 0, 1]));
            Arc::new(permit.expect("a permit"))
        };
        let [one, two, three] = [connect().await, connect().await, connect().await];
        let read = async |permit: &Arc<ConnectionPermit>, body, max_bytes| {
            let (source, permit) = (SocketAddr::from(([127, 0, 0, 1], 9)), Arc::clone(permit));
            let stopping = watch::channel(false).1;
            let mut request = Request::new(body);
            request.extensions_mut().insert(ConnectionInfo {
                source,
                local_ip: [127, 0, 0, 1].into(),
                is_forwarded: false,
                permit,
                stopping,
            });
            read_body(request, max_bytes).await.map(Request::into_body)
        };
        let chunked = |len| Body::from_stream(stream::once(ready(Ok::<_, Infallible>(vec![b'x'; len]))));
        let known = read(&one, Body::from(vec![b'x'; 400]), 500).await.expect("within the budget");
        let unknown = read(&two, chunked(400), 450).await.expect("within the budget");
        assert_eq!((known.len(), unknown.len(), budget.held()), (400, 400, heads + 850));
        for (body, error) in [
            (Body::from(vec![b'x'; 200]), OverBudget.into()),
            (chunked(1), OverBudget.into()),
            (Body::from(vec![b'x'; 501]), RequestError::too_large(500)),
        ] {
            assert_eq!(read(&three, body, 500).await.map(drop), Err(error));
        }
        assert_eq!(read(&three, chunked(101), 100).await.map(drop), Err(RequestError::too_large(100)));
        drop((known, unknown));
        assert_eq!((budget.held(), budget.refused()), (heads, 2));
    }
}
