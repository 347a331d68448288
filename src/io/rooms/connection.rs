//! One WebSocket: a task that reads, and writes what waits in its queue, until either end has had enough.

use std::error::Error;
use std::future::pending;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tungstenite::error::{Error as Broken, ProtocolError};

use super::queue::{Ending, Next, Queue};
use super::switchboard::{Line, Switchboard};
use crate::rooms::Conn;

/// How long a connection that broke the protocol is kept, so that it can read why.
const PATIENCE: Duration = Duration::from_secs(1);

/// Serves `line` over `socket` to its end.
pub(super) async fn serve(socket: WebSocket, line: &Line, switchboard: &Switchboard) {
    let (mut sink, mut stream) = socket.split();
    let reading = async {
        if let Some(ending) = read(&mut stream, line.conn, switchboard).await {
            switchboard.gone(line.conn);
            line.queue.end(ending);
            // It can be read no more; it may still be told, until that is overdue.
            pending::<()>().await;
        }
    };
    let writing = async {
        if write(&mut sink, &line.queue).await.is_ok() {
            // The close frame has left; the other end answers it, or not.
            pending::<()>().await;
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
        () = line.queue.overdue() => {}
    }
    switchboard.gone(line.conn);
}

/// Reads until the connection is closed or lost, or has to be closed for what it sent.
async fn read(stream: &mut SplitStream<WebSocket>, conn: Conn, switchboard: &Switchboard) -> Option<Ending> {
    while let Some(message) = stream.next().await {
        match message {
            Ok(Message::Text(text)) => switchboard.text(conn, &text),
            Ok(Message::Binary(_)) => switchboard.binary(conn),
            // Answered by the library.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => {}
            Err(error) => return breach(error.into_inner().as_ref()),
        }
    }
    None
}

/// Why a connection that cannot be read any more is closed; `None` if it is lost.
fn breach(error: &(dyn Error + Send + Sync + 'static)) -> Option<Ending> {
    let (code, reason) = match error.downcast_ref::<Broken>()? {
        Broken::Capacity(_) => (1009, "message too long"),
        Broken::Utf8(_) => (1007, "text is not UTF-8"),
        Broken::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return None,
        Broken::Protocol(_) => (1002, "not the WebSocket protocol"),
        _ => return None,
    };
    Some(Ending { code, reason: reason.to_owned(), patience: PATIENCE })
}

/// Writes what waits, all that there is in one go, until the close frame has left.
async fn write(sink: &mut SplitSink<WebSocket, Message>, queue: &Queue) -> Result<(), axum::Error> {
    loop {
        while let Some(next) = queue.pop() {
            match next {
                Next::Text(text) => sink.feed(Message::Text(text)).await?,
                Next::End(Ending { code, reason, .. }) => {
                    sink.feed(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await?;
                    return sink.flush().await;
                }
            }
        }
        sink.flush().await?;
        queue.filled().await;
    }
}
