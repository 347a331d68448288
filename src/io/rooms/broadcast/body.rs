//! The body of a request, as far as it may be long.

use std::future::poll_fn;
use std::pin::pin;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;

use super::refused::Refused;

/// The whole body, if it has at most `most` bytes. One that says itself that it has more is not waited for: a client that asks
/// before it sends (`Expect: 100-continue`) is told so and keeps it.
pub(super) async fn read(body: Body, most: usize) -> Result<Bytes, Refused> {
    let too_long = || Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large");
    if body.size_hint().lower() > most as u64 {
        return Err(too_long());
    }
    let (mut body, mut whole) = (pin!(body), Vec::new());
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame =
            frame.map_err(|_| Refused::new(StatusCode::BAD_REQUEST, "The body is cut off or not as HTTP has it"))?;
        // Trailers are nobody's business here.
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > most {
            return Err(too_long());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}
