//! Options of a cluster and errors at the start.

use serde_json::json;
use test_support::server::{Member, Server, run};

use super::{Servers, get, jamjam_room, start_server, surface};
use crate::redis_server::{RedisServer, free_port};

/// The exit code and the standard error of a server that cannot start.
fn failure(options: &[&str]) -> (i32, String) {
    let output = run(&[&["signaling-server", "--host", "127.0.0.1", "--port", "0"], options].concat(), |_| {});
    (output.code, output.stderr)
}

#[test]
fn start_without_a_common_secret_or_setting_names_the_option() {
    let Some(servers) = Servers::start(1, &[]) else { return };
    let url = servers.redis.url();
    let own = ["--hmac-secret", "test-secret", "--docs-password", "sesame"];
    for (options, named) in [
        (&[][..], "--hmac-secret"),
        (&["--hmac-secret", "other"], "another value of --hmac-secret;"),
        (&[&own[..], &["--webrtc-auth", "token"]].concat(), "another value of --webrtc-auth;"),
        (&[&own[..], &["--radio-delay", "1s"]].concat(), "another value of --radio-delay;"),
    ] {
        let (code, error) = failure(&[&["--cluster", &url], options].concat());
        assert_eq!(code, 2, "{options:?}: {error}");
        assert!(error.contains(named), "{options:?}: {error}");
    }
    // The first server goes on, and one with the same settings joins.
    assert_eq!(get(&servers.all[0], "/readyz").status, 200);
    start_server(&url, &[]);
}

#[test]
fn cluster_options_without_a_redis_name_the_missing_option() {
    for options in [["--cluster", ""], ["--cluster-prefix", "other:"], ["--cluster-wait", "4"]] {
        let (code, error) = failure(&options);
        assert!(code == 2 && error.contains("--cluster <URL>"), "{options:?}: {code}: {error}");
    }
    // An empty variable is ignored, but the others say that a cluster is meant.
    let output = run(&["signaling-server", "--host", "127.0.0.1", "--port", "0"], |server| {
        server.env("CLUSTER_URL", "").env("CLUSTER_PREFIX", "other:");
    });
    assert!(output.code == 2 && output.stderr.contains("--cluster <URL>"), "{}", output.stderr);
}

#[test]
fn unusable_redis_is_refused_in_words() {
    let Some(cluster) = RedisServer::start_with(&["--cluster-enabled", "yes"]) else { return };
    let nobody = format!("redis://user:hunter2@127.0.0.1:{}", free_port());
    for (url, code, words) in [
        (&*nobody, 3, "--cluster"),
        (&cluster.url(), 2, "Redis Cluster"),
        ("redis+cluster://127.0.0.1", 2, "redis+cluster"),
        ("http://127.0.0.1", 2, "http:// is not one of redis"),
    ] {
        let (got, error) = failure(&["--cluster", url, "--hmac-secret", "s"]);
        assert_eq!(got, code, "{url}: {error}");
        assert!(error.contains(words) && !error.contains("hunter2") && !error.contains("panicked"), "{url}: {error}");
    }
}

#[test]
fn servers_with_another_prefix_have_other_rooms() {
    let Some(servers) = Servers::start(2, &[]) else { return };
    // Other settings are those of another cluster.
    let other = Server::start_signaling(&[
        "--cluster",
        &servers.redis.url(),
        "--cluster-prefix",
        "other:",
        "--hmac-secret",
        "other",
    ]);
    let (_members, room) = jamjam_room(&servers.all);
    let mut member = Member::connect(other.address);
    assert!(member.rooms().is_empty());
    member.send("JoinRoom", &json!({"room_id": room, "password": null, "peer_name": "Eve"}));
    member.receive_type("Error");
    member.create_room("own");
    assert_eq!(Member::connect(servers.all[1].address).rooms().len(), 1);
}

#[test]
fn room_of_the_same_code_option_is_one_room() {
    let Some(servers) = Servers::start(2, &["--bbx-room", "4711"]) else { return };
    let [mut panel, mut desk] = [0, 1].map(|server| surface(&servers.all[server], "4711"));
    panel.send_json(&json!({"type": "param", "param": "gain", "value": 0.5}));
    let update = desk.skip_to("update");
    assert_eq!((&update["param"], &update["value"]), (&json!("gain"), &json!(0.5)));
    // A server that starts later finds the value.
    let third = start_server(&servers.redis.url(), &["--bbx-room", "4711"]);
    let mut late = surface(&third, "4711");
    late.send_json(&json!({"type": "sync"}));
    let state = late.skip_to("state");
    assert_eq!((&state["params"][0]["name"], &state["params"][0]["value"]), (&json!("gain"), &json!(0.5)), "{state}");
}

/// A member enters its room when the log of the room says so, after its request was handled.
#[test]
fn check_judges_the_members_of_its_own_server() {
    let Some(mut servers) = Servers::start(1, &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("r.md");
    servers.all.push(start_server(&servers.redis.url(), &["--check", "--markdown", file.to_str().unwrap()]));
    let (mut members, _) = jamjam_room(&servers.all);
    for member in &mut members {
        member.send("JoinRoom", &json!({"peer_name": "Ann"}));
    }
    members[1].receive_type("Error");
    // This member sends nothing after it has entered its room.
    let mut silent = Member::connect(servers.all[1].address);
    silent.create_room("Other");
    let own = servers.all.pop().unwrap();
    assert_eq!(own.stop("TERM").code, Some(1));
    let report = std::fs::read_to_string(file).unwrap();
    let counts = ["### connection ", "jamjam, joined a room", "- error: "].map(|text| report.matches(text).count());
    assert_eq!(counts, [2, 2, 1], "{report}");
    assert!(report.contains("data.room\\_id"), "{report}");
}
