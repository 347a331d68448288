//! Files that declare broadcast rooms.

use std::time::Duration;

use jamjam_dev::cli::options::broadcast::parse_room;
use serde_json::json;

#[test]
fn every_field_and_every_type_of_a_welcome_is_read() {
    let room = parse_room(
        "requires_auth = false\nbroadcast_delay = \"60m\"\nmax_clients = 2\nstamp = true\n[welcome]\ntext = \"Hello\"\n\
         integer = -7\nfloat = 0.5\nnothing = nan\nyes = true\nday = 2026-11-20\nlist = [1, [\"a\"]]\ntable.inner = 1\n",
    )
    .unwrap();
    assert_eq!((room.is_public, room.max_clients, room.stamp), (true, Some(2), true));
    assert_eq!(room.broadcast_delay, Duration::from_secs(3_600));
    let welcome = json!({
        "text": "Hello", "integer": -7, "float": 0.5, "nothing": null, "yes": true, "day": "2026-11-20", "list": [1, ["a"]],
        "table": {"inner": 1}
    });
    assert_eq!(json!(room.welcome), welcome);
}

#[test]
fn missing_fields_have_defaults_and_invalid_ones_are_errors() {
    let room = parse_room("").unwrap();
    assert_eq!((room.is_public, room.max_clients, room.stamp), (false, None, false));
    assert!(room.welcome.is_empty() && room.broadcast_delay.is_zero());
    assert_eq!(parse_room("broadcast_delay = \"5\"").unwrap().broadcast_delay, Duration::from_secs(5));
    for wrong in [
        "max_clients = 0",
        "max_clients = -1",
        "broadcast_delay = 5",
        "broadcast_delay = \"61m\"",
        "stamp = 1",
        "requires_auth = \"no\"",
        "welcome = \"Hello\"",
        "unknown = 1",
        "stamp = true\nstamp = true",
        "=",
    ] {
        assert!(parse_room(wrong).is_err(), "{wrong}");
    }
}
