//! A broadcast room of one's own: the handler of room `myroom`, which uses every hook there is, in a server of one's own.
//!
//! ```sh
//! HMAC_SECRET=test-secret cargo run --example custom_room
//! jamjam-dev signaling-server --hmac-secret test-secret --print-token client-001:myroom
//! ```

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use jamjam_dev::io::rooms::Options;
use jamjam_dev::io::stop::Stop;
use jamjam_dev::io::{entropy, http as server, rooms};
use jamjam_dev::rooms::broadcast::Settings;
use jamjam_dev::rooms::broadcast::token::Secret;
use jamjam_dev::rooms::handler::{
    Action, Client, Context, Rejection, Relay, Request as Connecting, Room, RoomHandler, To,
};
use jamjam_dev::rooms::{Hub, Limits, Registry};
use serde_json::{Map, Value, json};

/// The room. What it keeps lasts as long as the server.
#[derive(Default)]
pub(crate) struct MyRoom {
    relayed: u64,
    beats: u64,
}

/// A frame for everybody who is there.
fn notice(what: &str, who: &str) -> Vec<Action> {
    vec![Action::Send(To::Members, json!({"type": "notice", "what": what, "who": who}))]
}

impl MyRoom {
    fn processed(&mut self, room: &Room<'_>, mut payload: Value) -> Option<Relay> {
        // What is to be forgotten is not relayed.
        if payload["type"] == "forget" {
            return None;
        }
        self.relayed += 1;
        payload["processed"] = true.into();
        payload["timestamp"] = room.unix_ms().into();
        Some(Relay::Content(payload))
    }
}

impl RoomHandler for MyRoom {
    fn requires_auth(&self) -> bool {
        // A token is not needed; whoever has one is known by it, and others are not let in below.
        false
    }

    fn max_clients(&self) -> Option<usize> {
        Some(3)
    }

    fn verify_auth(&mut self, _: &Room<'_>, client: &Client, request: &Connecting<'_>) -> Result<(), Rejection> {
        // Old clients of the room are told so by their own name.
        if request.header("User-Agent") == Some("myclient/1") {
            return Err(Rejection { code: 4_010, reason: "Update your client".to_owned() });
        }
        match &client.claims {
            None => Err(Rejection { code: 4_001, reason: "Missing clientId".to_owned() }),
            Some(claims) if claims.client_id == "mallory" => Err(Rejection::default()),
            Some(_) => Ok(()),
        }
    }

    fn welcome_message(&mut self, room: &Room<'_>, client: &Client) -> String {
        json!({"type": "welcome", "message": "Welcome to MyRoom!", "you": client.id(), "timestamp": room.unix_ms()})
            .to_string()
    }

    fn on_join(&mut self, _: &Room<'_>, client: &Client) -> Vec<Action> {
        notice("joined", client.id())
    }

    fn on_leave(&mut self, _: &Room<'_>, client: &Client, code: u16, reason: &str) -> Vec<Action> {
        notice(&format!("left with {code} {reason}"), client.id())
    }

    fn on_control_join(&mut self, _: &Room<'_>, client: &Client) -> Vec<Action> {
        notice("listens", client.id())
    }

    fn on_control_leave(&mut self, _: &Room<'_>, client: &Client, code: u16, _: &str) -> Vec<Action> {
        notice(&format!("listens no more: {code}"), client.id())
    }

    fn validate_message(&mut self, _: &Room<'_>, _: &Client, payload: &Value) -> Result<(), String> {
        if payload["type"].is_string() { Ok(()) } else { Err("A message needs a type".to_owned()) }
    }

    fn validate_http_post(&mut self, _: &Room<'_>, payload: &Value) -> Result<(), String> {
        if payload["type"].is_string() { Ok(()) } else { Err("A post needs a type".to_owned()) }
    }

    fn on_message(&mut self, room: &Room<'_>, _: &Client, payload: Value) -> Option<Relay> {
        self.processed(room, payload)
    }

    fn on_http_post(&mut self, room: &Room<'_>, mut payload: Value) -> Option<Relay> {
        payload["posted"] = true.into();
        self.processed(room, payload)
    }

    fn room_stats(&self, _: &Room<'_>) -> Map<String, Value> {
        Map::from_iter([("relayed".to_owned(), self.relayed.into())])
    }

    fn on_heartbeat(&mut self, room: &Room<'_>) -> Vec<Action> {
        self.beats += 1;
        let beat = json!({"type": "beat", "clients": room.clients, "listeners": room.control_clients});
        vec![Action::Send(To::Controls, beat)]
    }

    fn has_route(&self, _: &Room<'_>, path: &str) -> bool {
        path == "stats"
    }

    fn routes(&mut self, room: &Room<'_>, _: &str, request: &Request<Bytes>) -> Option<Response<Bytes>> {
        if request.method() != Method::GET {
            let refusal = Response::builder().status(StatusCode::METHOD_NOT_ALLOWED).header("Allow", "GET");
            return refusal.body(Bytes::new()).ok();
        }
        let stats = json!({"room": room.name, "relayed": self.relayed, "clients": room.clients});
        let answer = Response::builder().header("Content-Type", "application/json");
        answer.body(Bytes::from(stats.to_string())).ok()
    }

    fn control_payload(&mut self, context: &Context<'_>) -> Option<Value> {
        let by = context.sender.map_or("http", Client::id);
        Some(json!({"type": "relayed", "kind": context.payload["type"], "by": by}))
    }

    fn broadcast_delay(&self, context: &Context<'_>) -> Duration {
        Duration::from_millis(context.payload["wait"].as_u64().unwrap_or(0))
    }
}

fn main() -> std::io::Result<()> {
    let secret = std::env::var("HMAC_SECRET").map_err(|_| std::io::Error::other("set HMAC_SECRET"))?;
    let mut handlers = Registry::default();
    handlers.insert("myroom", MyRoom::default());
    let broadcast = Settings { secret: Some(Secret::new(&secret)), ..Settings::default() };
    let hub = Hub::new(Limits { broadcast, ..Limits::default() }, entropy::words()).with_handlers(handlers);
    let listener = server::bind(([127, 0, 0, 1], 7_777).into())?;
    println!("ws://{}/myroom?token=TOKEN", listener.local_addr()?);
    rooms::serve(listener, hub, Options::default(), &Stop::default())
}
