//! Servers that die, stop or lose their way to Redis, while the others go on.

use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use test_support::server::{Member, add_address, in_network_namespace, ip, poll_until};

use super::{
    CABLE, LONG_OUTAGE, MAX_DEPARTURE, SERVICE_RESTART, Servers, assert_all_reached, broadcast_member, get,
    jamjam_room, join_jamjam, post, start_far_redis, start_server, surface, webrtc_member,
};

/// A room of each dialect with a member on each of three servers.
struct Rooms {
    jamjam: Vec<Member>,
    jamjam_id: Value,
    webrtc: Vec<Member>,
    broadcast: Vec<Member>,
}

impl Rooms {
    fn new(servers: &Servers) -> Self {
        let (jamjam, jamjam_id) = jamjam_room(&servers.all);
        let each = |join: fn(_, &str, &str) -> Member| {
            let members = servers.all.iter().enumerate();
            members.map(|(number, server)| join(server.address, "r", &format!("user{number}"))).collect::<Vec<_>>()
        };
        Self { jamjam, jamjam_id, webrtc: each(webrtc_member), broadcast: each(broadcast_member) }
    }

    /// Takes the members of this server away.
    fn remove(&mut self, server: usize) -> [Member; 3] {
        [&mut self.jamjam, &mut self.webrtc, &mut self.broadcast].map(|members| members.remove(server))
    }

    /// The second server closes its former members, and takes part again.
    fn assert_second_returns(&mut self, servers: &Servers, lost: [Member; 3]) {
        for mut member in lost {
            assert_eq!(member.read_to_close().0.0, SERVICE_RESTART);
        }
        servers.wait_until_ready();
        let back = join_jamjam(&servers.all[1], &self.jamjam_id, &mut self.jamjam);
        self.jamjam.push(back);
        assert_all_reached(&mut self.jamjam);
    }

    /// Checks that the members of the second server leave within the lifetime of a lease, for all others and once.
    fn assert_second_leaves(&mut self, servers: &Servers, began: Instant) {
        for member in &mut self.jamjam {
            member.receive_type("PeerLeft");
        }
        for member in &mut self.webrtc {
            let left = member.skip_to("participant-left");
            assert_eq!(left["userId"], "user1");
            assert_eq!(left["participants"].as_array().unwrap().len(), 2, "{left}");
        }
        assert!(began.elapsed() < MAX_DEPARTURE, "{:?}", began.elapsed());
        assert_eq!(post(&servers.all[0], "r", &json!({"n": 1})).json()["clientCount"], 2);
        for member in &mut self.broadcast {
            assert_eq!(member.receive()["content"]["n"], 1);
        }
        // A second departure would be the next message.
        assert_all_reached(&mut self.jamjam);
    }
}

#[test]
fn members_of_a_killed_server_leave_and_the_others_go_on() {
    let Some(mut servers) = Servers::start(3, &[]) else { return };
    let mut rooms = Rooms::new(&servers);
    // SIGKILL.
    drop(servers.all.remove(1));
    let killed = Instant::now();
    let _lost = rooms.remove(1);
    // Before the lease has expired, the rooms work as ever.
    assert_all_reached(&mut rooms.jamjam);
    rooms.assert_second_leaves(&servers, killed);
    // The members come back on another server, with their old names.
    webrtc_member(servers.all[1].address, "r", "user1");
    assert_eq!(rooms.webrtc[0].skip_to("participant-joined")["userId"], "user1");
    let back = join_jamjam(&servers.all[1], &rooms.jamjam_id, &mut rooms.jamjam);
    rooms.jamjam.push(back);
    assert_all_reached(&mut rooms.jamjam);
    servers.all.push(start_server(&servers.redis.url(), &[]));
    servers.assert_new_rooms_work();
}

#[test]
fn stopped_server_closes_its_outdated_connections_and_serves_new_ones() {
    let Some(servers) = Servers::start(3, &[]) else { return };
    let mut rooms = Rooms::new(&servers);
    let lost = rooms.remove(1);
    servers.all[1].signal("STOP");
    let stopped = Instant::now();
    rooms.assert_second_leaves(&servers, stopped);
    thread::sleep(LONG_OUTAGE.saturating_sub(stopped.elapsed()));
    servers.all[1].signal("CONT");
    rooms.assert_second_returns(&servers, lost);
    servers.assert_new_rooms_work();
}

/// A rolling restart, as of a new version.
#[test]
fn server_that_ends_by_itself_removes_its_members_at_once() {
    let Some(mut servers) = Servers::start(3, &["--bbx-room", "4711"]) else { return };
    let mut rooms = Rooms::new(&servers);
    let mut panel = surface(&servers.all[1], "4711");
    let stopped = Instant::now();
    let mut lost = rooms.remove(1);
    // The closing handshakes are those of real clients.
    let closing = thread::spawn(move || {
        let codes = lost.each_mut().map(|member| member.read_to_close().0.0);
        (codes, panel.read_to_close().0.0)
    });
    let ended = servers.all.remove(1).stop("TERM");
    assert_eq!(ended.code, Some(0));
    let (codes, of_panel) = closing.join().unwrap();
    // As without a cluster.
    assert_eq!((codes, of_panel), ([1001, 1001, 4002], 1001));
    rooms.assert_second_leaves(&servers, stopped);
    assert!(stopped.elapsed().as_secs() < 9, "the others waited for the lease: {:?}", stopped.elapsed());
    surface(&servers.all[1], "4711");
}

#[test]
fn server_cut_off_from_redis_loses_its_members_and_returns() {
    in_network_namespace(|| {
        // The second server reaches Redis at an address that can be taken away.
        let Some(redis) = start_far_redis() else { return };
        let far = redis.url_at(CABLE);
        let mut servers = Servers::with(redis, 1, &[]);
        servers.all.push(start_server(&far, &[]));
        servers.all.push(start_server(&servers.redis.url(), &[]));
        let mut rooms = Rooms::new(&servers);
        let lost = rooms.remove(1);
        ip(&["address", "del", CABLE, "dev", "lo"]);
        let cut = Instant::now();
        rooms.assert_second_leaves(&servers, cut);
        poll_until("not ready", || (get(&servers.all[1], "/readyz").status == 503).then_some(()));
        assert_eq!(get(&servers.all[1], "/healthz").status, 200);
        add_address(CABLE.parse().unwrap());
        rooms.assert_second_returns(&servers, lost);
    });
}
