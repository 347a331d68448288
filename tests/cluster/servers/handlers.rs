//! A room handler of an embedding program, which decides with the copy of its room.

use std::time::Instant;

use jamjam_dev::io::cluster::{ClusterConfig, DEFAULT_WAIT};
use jamjam_dev::io::signaling::SignalingServerConfig;
use jamjam_dev::signaling::broadcast::{
    BroadcastSettings, ClientInfo, JoinRequest, Rejection, RoomHandler, RoomHandlers, RoomView,
};
use jamjam_dev::signaling::token::Secret;
use jamjam_dev::signaling::{Hub, SignalingLimits};
use jamjam_dev::testing::SignalingServer;
use serde_json::Value;
use test_support::server::{Member, send_to};

use super::{SERVICE_RESTART, broadcast_member, token};
use crate::redis_server::RedisServer;

/// Admits one member, accepts posts while it is there, and serves the number of members.
struct Duo;

impl RoomHandler for Duo {
    fn verify_auth(&mut self, room: &RoomView<'_>, _: &ClientInfo, _: &JoinRequest<'_>) -> Result<(), Rejection> {
        if room.clients < 1 { Ok(()) } else { Err(Rejection::default()) }
    }

    fn validate_http_post(&mut self, room: &RoomView<'_>, _: &Value) -> Result<(), String> {
        if room.clients == 1 { Ok(()) } else { Err("nobody listens".to_owned()) }
    }

    fn has_route(&self, room: &RoomView<'_>, _: &str) -> bool {
        room.clients == 1
    }

    fn routes(
        &mut self,
        room: &RoomView<'_>,
        _: &str,
        _: &http::Request<bytes::Bytes>,
    ) -> Option<http::Response<bytes::Bytes>> {
        Some(http::Response::new(room.clients.to_string().into()))
    }

    fn save(&self) -> Option<Value> {
        Some(Value::Null)
    }
}

fn start(redis: &RedisServer) -> SignalingServer {
    let mut handlers = RoomHandlers::default();
    handlers.insert("duo", Duo);
    let broadcast = BroadcastSettings { secret: Some(Secret::new("test-secret")), ..BroadcastSettings::default() };
    let limits = SignalingLimits { broadcast, ..SignalingLimits::default() };
    let hub = Hub::new(limits, [1, 2, 3, 4]).with_handlers(handlers);
    let cluster =
        ClusterConfig { url: redis.url(), prefix: "jamjam:".to_owned(), wait: DEFAULT_WAIT, settings: Vec::new() };
    let mut config = SignalingServerConfig { cluster: Some(cluster), ..SignalingServerConfig::default() };
    config.broadcast.post_limit = None;
    SignalingServer::start_hub(hub, config).unwrap()
}

#[test]
fn handler_decides_with_the_members_of_all_servers() {
    let Some(redis) = RedisServer::start() else { return };
    let (one, other) = (start(&redis), start(&redis));
    let bearer = format!("Authorization: Bearer {}", token("poster", "duo"));
    let post = || send_to(other.addr(), "POST", "/duo/postcontent", &[&bearer], "{}").status;
    let route = || send_to(other.addr(), "GET", "/rooms/duo/count", &[], "");
    assert_eq!((post(), route().status), (422, 404));
    let member = broadcast_member(one.addr(), "duo", "ann");
    let mut second = Member::connect_to(other.addr(), &format!("/rooms/duo?token={}", token("bob", "duo")));
    assert_eq!(second.closed(), (4_004, "Rejected by room".to_owned()));
    assert_eq!((post(), route().body), (200, "1".to_owned()));
    member.close("");
    test_support::server::poll_until("the member has left", || (post() == 422).then_some(()));
}

#[test]
fn join_of_a_room_with_a_handler_waits_for_redis_once() {
    let Some(redis) = RedisServer::start() else { return };
    let server = start(&redis);
    redis.signal("STOP");
    let began = Instant::now();
    let mut member = Member::connect_to(server.addr(), &format!("/rooms/duo?token={}", token("ann", "duo")));
    assert_eq!(member.closed().0, SERVICE_RESTART);
    // --cluster-wait.
    assert!((5.0..8.0).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
    redis.signal("CONT");
}
