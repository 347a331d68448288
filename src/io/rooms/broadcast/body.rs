//! The body of a request, as far as it may be long.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};

use super::refused::Refused;

/// How much is still taken of a body that is refused. A connection that is closed with something unread in it is reset, and whoever
/// was sending might never read the answer.
const DRAINED: usize = 1 << 20;

/// The whole body, if it has at most `most` bytes. One whose head says that it has more is not waited for: a client that asks
/// before it sends (`Expect: 100-continue`) keeps it.
pub(super) async fn read(headers: &HeaderMap, mut body: Body, most: usize) -> Result<Bytes, Refused> {
    let too_long = || Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large");
    if body.size_hint().lower() > most as u64 {
        if !headers.contains_key(header::EXPECT) {
            tokio::spawn(drain(body));
        }
        return Err(too_long());
    }
    let mut whole = Vec::new();
    while let Some(data) = next(&mut body).await {
        let data =
            data.map_err(|_| Refused::new(StatusCode::BAD_REQUEST, "The body breaks off or is not as HTTP has it"))?;
        if whole.len() + data.len() > most {
            tokio::spawn(drain(body));
            return Err(too_long());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

/// The next bytes of a body; none in place of trailers, which are nobody's business here.
async fn next(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

/// Takes what still comes, as far as it is not much. The connection's own time limit is that of this.
async fn drain(mut body: Body) {
    let mut taken = 0;
    while taken <= DRAINED
        && let Some(Ok(data)) = next(&mut body).await
    {
        taken += data.len();
    }
}
