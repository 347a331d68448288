//! A stream of the other end on its way into a WebTransport session: what it begins with says whether it belongs there.

use std::time::Duration;

use quinn::{RecvStream, SendStream, VarInt};
use web_transport_proto as proto;

use super::over;
use super::webtransport::{NO_SESSION, REQUEST_REJECTED};

/// How long a stream may take to say what it is for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A stream that has entered, or why it has not.
pub(super) enum Entered {
    /// It belongs to the session.
    Stream(Option<SendStream>, RecvStream),
    /// It is HTTP/3's own, or means nothing, and has ended.
    Ignored,
    /// It was refused.
    Refused,
}

/// Reads what a stream begins with. `session` is ours.
pub(super) async fn enter(session: u64, send: Option<SendStream>, mut recv: RecvStream) -> Entered {
    let expected = if send.is_some() { over::BIDI } else { over::UNI };
    let prefix = async {
        let kind = proto::VarInt::read(&mut recv).await.ok()?.into_inner();
        if kind != expected {
            return Some(None);
        }
        Some(Some(proto::VarInt::read(&mut recv).await.ok()?.into_inner()))
    };
    match tokio::time::timeout(PATIENCE, prefix).await {
        Ok(Some(Some(id))) if id == session => Entered::Stream(send, recv),
        // Control streams, those of QPACK, and such as are there so that nobody relies on there being none: their bytes may come
        // for as long as the connection lasts.
        Ok(Some(None)) if send.is_none() => {
            let _ = tokio::io::copy(&mut recv, &mut tokio::io::sink()).await;
            Entered::Ignored
        }
        Ok(Some(None)) => refuse(send, recv, REQUEST_REJECTED),
        _ => refuse(send, recv, NO_SESSION),
    }
}

fn refuse(send: Option<SendStream>, mut recv: RecvStream, code: u32) -> Entered {
    let code = VarInt::from_u32(code);
    // Streams that are gone already need no refusal.
    let _ = recv.stop(code);
    if let Some(mut send) = send {
        let _ = send.reset(code);
    }
    Entered::Refused
}
