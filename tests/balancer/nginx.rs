//! `packaging/nginx.conf`.

use test_support::server::{poll_until, send_to};

use crate::balancers::Nginx;
use crate::rooms::Room;
use crate::servers::Servers;

#[test]
#[ignore = "needs nginx: .ci/full"]
fn nginx_spreads_rooms_and_splits_them_after_a_return() {
    let mut servers = Servers::start(&[]);
    let nginx = Nginx::start(&servers);
    // As many members as there are forms of a URL, which all write the name alike.
    let mut rooms = Room::several(nginx.address(), 0..50, 7, "%20");
    rooms.iter_mut().for_each(Room::assert_complete);
    let lost = &servers.all_rooms(rooms.len())[0];
    assert!(lost.len() > 5, "{lost:?}");
    assert_eq!(send_to(nginx.address(), "GET", "/metrics", &[], "").status, 404);

    servers.kill(0);
    let (mut moved, mut others): (Vec<_>, Vec<_>) = rooms.into_iter().partition(|room| lost.contains_key(room.name()));
    moved.iter_mut().for_each(Room::wait_until_lost);
    for room in &mut moved {
        room.join(2);
        room.assert_complete();
    }
    others.iter_mut().for_each(Room::assert_complete);

    servers.start_again(0);
    poll_until("a room in two parts", || (moved[0].join_webrtc().1 == 0).then_some(()));
}
