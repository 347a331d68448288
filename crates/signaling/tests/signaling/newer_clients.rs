//! Newer jamjam clients at `/v1/signaling`, which disconnect if they cannot read a message. The transcripts `newer-….txt` show what they
//! receive.

use serde_json::{Value, json};
use test_support::in_memory_hub::InMemoryHub;
use test_support::transcript::TranscriptServer;

const LINK_KEY: &str = "wpv+vvwGqdhu+xjhU1PNSirMDH6kj2YhXhiG7UQ/qP4=";

fn send(hub: &mut InMemoryHub, name: &str, kind: &str, data: &Value) {
    hub.send_text(name, &json!({"type": kind, "data": data}).to_string()).unwrap();
}

fn receive(hub: &mut InMemoryHub, name: &str) -> Value {
    serde_json::from_str(&hub.receive(name).unwrap()).unwrap()
}

#[test]
fn long_keys_features_and_names_of_a_hostile_member_reach_no_other_member() {
    let mut hub = InMemoryHub::new([1, 2, 3, 4]);
    for name in ["ann", "eve"] {
        hub.connect(name, "/v1/signaling").unwrap();
    }
    send(&mut hub, "ann", "CreateRoom", &json!({"room_name": "Jam", "peer_name": "Ann"}));
    let code = receive(&mut hub, "ann")["data"]["invite_code"].clone();
    let join = |link_key: Value, features: Value| json!({"room_id": code, "peer_name": "Eve", "link_key": link_key, "features": features});
    for link_key in ["x", "AAAA", &LINK_KEY[..43], &format!("{LINK_KEY}="), &"A".repeat(44), &"A".repeat(100_000)] {
        send(&mut hub, "eve", "JoinRoom", &join(json!(link_key), json!([])));
        let error = json!({"type": "Error", "data": {"message": "Invalid link key"}});
        assert_eq!(receive(&mut hub, "eve"), error, "{link_key:.50}");
    }
    for (link_key, features) in [
        (json!("A".repeat(1 << 20)), json!([])),
        (json!(7), json!([])),
        (Value::Null, json!("peer_message")),
        (Value::Null, json!([1])),
    ] {
        send(&mut hub, "eve", "JoinRoom", &join(link_key, features));
    }
    assert_eq!(hub.no_messages(), Ok(()));
    let features: Vec<String> = (0..10_000).map(|number| format!("feature{number}")).collect();
    let mut data = join(Value::Null, json!(features));
    data["peer_name"] = "\u{1b}[2J\"\\".repeat(1_000).into();
    data["client_info"] = json!([1]);
    send(&mut hub, "eve", "JoinRoom", &data);
    let eve = receive(&mut hub, "eve")["data"]["peer_id"].clone();
    let joined = receive(&mut hub, "ann")["data"]["peer"].take();
    assert_eq!((&joined["id"], joined["name"].as_str().unwrap().len()), (&eve, 256));
    assert_eq!(joined.get("features"), None);
    let candidate = |address: &str, priority: i64| json!({"candidates": [{"address": address, "candidate_type": "Host", "priority": priority}]});
    for data in [
        candidate("192.0.2.1:0", 1),
        candidate("192.0.2.1:5000", -1),
        candidate("192.0.2.1:5000", 4_294_967_296),
        json!({"public_addr": "192.0.2.1:0"}),
        json!({"local_addr": "[::1]:0"}),
    ] {
        send(&mut hub, "eve", "UpdatePeerInfo", &data);
        assert_eq!(hub.no_message("ann"), Ok(()), "{data}");
    }
}
