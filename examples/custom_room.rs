//! A custom broadcast room. The handler for the room `myroom` implements every hook, and a server uses this handler.
//!
//! ```sh
//! HMAC_SECRET=test-secret cargo run --example custom_room
//! HMAC_SECRET=test-secret jamjam-dev token client-001:myroom
//! ```

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use jamjam_dev::io::signaling::SignalingServerConfig;
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::io::{http as server, os, signaling};
use jamjam_dev::signaling::broadcast::{
    BroadcastSettings, ClientInfo, Recipients, Rejection, RelayContext, RelayPayload, RoomAction, RoomHandler,
    RoomHandlers, RoomView,
};
use jamjam_dev::signaling::token::Secret;
use jamjam_dev::signaling::{Hub, SignalingLimits};
use serde_json::{Map, Value, json};

/// The room handler. Its state lives as long as the server.
#[derive(Default)]
pub(crate) struct MyRoom {
    relayed: u64,
    beats: u64,
}

/// A message to all members.
fn notice(event: &str, user: &str) -> Vec<RoomAction> {
    vec![RoomAction::Send(Recipients::Members, json!({"type": "notice", "what": event, "who": user}))]
}

impl MyRoom {
    fn process(&mut self, room: &RoomView<'_>, mut payload: Value) -> Option<RelayPayload> {
        // `forget` messages are not relayed.
        if payload["type"] == "forget" {
            return None;
        }
        self.relayed += 1;
        payload["processed"] = true.into();
        payload["timestamp"] = room.now.unix_ms().into();
        Some(RelayPayload::Content(payload))
    }
}

impl RoomHandler for MyRoom {
    fn requires_auth(&self) -> bool {
        // The server does not reject clients without a token; `verify_auth` below does.
        false
    }

    fn max_clients(&self) -> Option<usize> {
        Some(3)
    }

    fn verify_auth(&mut self, _: &RoomView<'_>, client: &ClientInfo, headers: &HeaderMap) -> Result<(), Rejection> {
        // Rejects outdated clients by their user agent.
        if headers.get(header::USER_AGENT).is_some_and(|agent| agent == "myclient/1") {
            return Err(Rejection { code: 4_010, reason: "Update your client".to_owned() });
        }
        match &client.claims {
            None => Err(Rejection { code: 4_001, reason: "Missing clientId".to_owned() }),
            Some(claims) if claims.client_id == "mallory" => Err(Rejection::default()),
            Some(_) => Ok(()),
        }
    }

    fn welcome_message(&mut self, room: &RoomView<'_>, client: &ClientInfo) -> String {
        json!({"type": "welcome", "message": "Welcome to MyRoom!", "you": client.id(), "timestamp": room.now.unix_ms()})
            .to_string()
    }

    fn on_join(&mut self, _: &RoomView<'_>, client: &ClientInfo) -> Vec<RoomAction> {
        notice("joined", client.id())
    }

    fn on_leave(&mut self, _: &RoomView<'_>, client: &ClientInfo, code: u16, reason: &str) -> Vec<RoomAction> {
        notice(&format!("left with {code} {reason}"), client.id())
    }

    fn on_control_join(&mut self, _: &RoomView<'_>, client: &ClientInfo) -> Vec<RoomAction> {
        notice("listens", client.id())
    }

    fn on_control_leave(&mut self, _: &RoomView<'_>, client: &ClientInfo, code: u16, _: &str) -> Vec<RoomAction> {
        notice(&format!("listens no more: {code}"), client.id())
    }

    fn validate_message(&mut self, _: &RoomView<'_>, _: &ClientInfo, payload: &Value) -> Result<(), String> {
        if payload["type"].is_string() { Ok(()) } else { Err("A message needs a type".to_owned()) }
    }

    fn validate_http_post(&mut self, _: &RoomView<'_>, payload: &Value) -> Result<(), String> {
        if payload["type"].is_string() { Ok(()) } else { Err("A post needs a type".to_owned()) }
    }

    fn on_message(&mut self, room: &RoomView<'_>, _: &ClientInfo, payload: Value) -> Option<RelayPayload> {
        self.process(room, payload)
    }

    fn on_http_post(&mut self, room: &RoomView<'_>, mut payload: Value) -> Option<RelayPayload> {
        payload["posted"] = true.into();
        self.process(room, payload)
    }

    fn room_stats(&self, _: &RoomView<'_>) -> Map<String, Value> {
        Map::from_iter([("relayed".to_owned(), self.relayed.into())])
    }

    fn on_heartbeat(&mut self, room: &RoomView<'_>) -> Vec<RoomAction> {
        self.beats += 1;
        let beat = json!({"type": "beat", "clients": room.clients, "listeners": room.control_clients});
        vec![RoomAction::Send(Recipients::ControlChannels, beat)]
    }

    fn routes(&mut self, room: &RoomView<'_>, path: &str, request: &Request<Bytes>) -> Option<Response<Bytes>> {
        if path != "stats" {
            return None;
        }
        if request.method() != Method::GET {
            let response = Response::builder().status(StatusCode::METHOD_NOT_ALLOWED).header("Allow", "GET");
            return response.body(Bytes::new()).ok();
        }
        let stats = json!({"room": room.name, "relayed": self.relayed, "clients": room.clients});
        let response = Response::builder().header("Content-Type", "application/json");
        response.body(Bytes::from(stats.to_string())).ok()
    }

    fn control_payload(&mut self, context: &RelayContext<'_>) -> Option<Value> {
        let sender = context.sender.map_or("http", ClientInfo::id);
        Some(json!({"type": "relayed", "kind": context.payload["type"], "by": sender}))
    }

    fn broadcast_delay(&self, context: &RelayContext<'_>) -> Duration {
        Duration::from_millis(context.payload["wait"].as_u64().unwrap_or(0))
    }
}

fn main() -> std::io::Result<()> {
    let secret = std::env::var("HMAC_SECRET").map_err(|_| std::io::Error::other("set HMAC_SECRET"))?;
    let mut handlers = RoomHandlers::default();
    handlers.insert("myroom", MyRoom::default());
    let broadcast = BroadcastSettings { secret: Some(Secret::new(&secret)), ..BroadcastSettings::default() };
    let hub = Hub::new(SignalingLimits { broadcast, ..SignalingLimits::default() }, os::random_u64s())
        .with_handlers(handlers);
    let listener = server::bind(([127, 0, 0, 1], 7_777).into())?;
    println!("ws://{}/myroom?token=TOKEN", listener.local_addr()?);
    signaling::spawn(listener, hub, SignalingServerConfig::default(), &StopToken::default())?.worker.join();
    Ok(())
}
