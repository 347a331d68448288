//! Key exchange and sealed packets against golden vectors (`fixtures/link/vectors.json`).

use test_support::link_vectors::{bytes, key, list, vectors};

use jamjam_core::link::{Agreement, LinkKey, OpenError, PublicHalf, exchange, payload_range, to_opened};
use proptest::prelude::*;
use serde_json::Value;

fn half(key: [u8; 32]) -> PublicHalf {
    PublicHalf { key, is_signed: false }
}

/// The keys that the end with the private key `own` derives.
fn agree(own: [u8; 32], peer: [u8; 32]) -> Agreement {
    exchange(half(peer), &own.into(), &LinkKey::from_seed(&[1; 32])).expect("usable keys")
}

/// Sender and receiver of a direction such as `a->b`.
fn ends(link: &Value, direction: &str) -> (Agreement, Agreement) {
    let (from, to) = direction.split_once("->").expect("a direction");
    let of = |own: &str, peer: &str| agree(key(&link[own], "private"), key(&link[peer], "public"));
    (of(from, to), of(to, from))
}

fn direction(entry: &Value) -> &str {
    entry["direction"].as_str().expect("a direction")
}

#[test]
fn golden_packets_open_and_are_sealed_to_the_same_bytes() {
    let vectors = vectors();
    let (mut opened, mut sealed) = (0, 0);
    for link in list(&vectors, "links") {
        for entry in list(link, "packets") {
            let (mut sender, mut receiver) = ends(link, direction(entry));
            let wire = bytes(entry, "wire");
            let mut datagram = wire.clone();
            assert_eq!(receiver.opener.open(&mut datagram), Ok(()), "{entry}");
            assert_eq!(datagram[payload_range(datagram.len())], bytes(entry, "plain"), "{entry}");
            opened += 1;
            let counter = entry["counter"].as_u64().expect("a counter");
            if counter < 10_000 {
                (0..counter).for_each(|_| _ = sender.sealer.take_counter());
                let plain = [&wire[..12], &bytes(entry, "plain")].concat();
                let mut datagram = to_opened(&plain);
                sender.sealer.seal(&mut datagram);
                assert_eq!(datagram, wire, "{entry}");
                sealed += 1;
            }
        }
    }
    assert!(opened > 100 && sealed > 80, "{opened} {sealed}");
}

#[test]
fn replay_window_accepts_exactly_the_golden_steps() {
    let vectors = vectors();
    for link in list(&vectors, "links") {
        for window in list(link, "window") {
            let (_, mut receiver) = ends(link, direction(window));
            for step in list(window, "steps") {
                let result = receiver.opener.open(&mut bytes(step, "wire"));
                assert_eq!(result.is_ok(), step["accept"].as_bool().expect("a boolean"), "{step}");
            }
        }
    }
}

#[test]
fn signed_answer_has_the_golden_bytes() {
    let vectors = vectors();
    let golden = &vectors["key_exchange"];
    let link_key = LinkKey::from_seed(&key(&golden["server"], "link_private"));
    assert_eq!(link_key.public(), key(&golden["server"], "link_public"));
    let half = PublicHalf::parse(&bytes(&golden["app_signed"], "payload")).expect("a half");
    assert_eq!(half, PublicHalf { key: key(&golden["app"], "ephemeral_public"), is_signed: true });
    let entropy = key(&golden["server"], "ephemeral_private").into();
    let agreement = exchange(half, &entropy, &link_key).expect("usable keys");
    assert_eq!(agreement.answer, bytes(&golden["server_answer"], "wire"));
    let unsigned = PublicHalf::parse(&bytes(&golden["unsigned"], "app")).expect("a half");
    let agreement = exchange(unsigned, &entropy, &link_key).expect("usable keys");
    assert_eq!(agreement.answer[12..], bytes(&golden["unsigned"], "server"));
}

proptest! {
    #[test]
    fn any_flipped_bit_is_refused_and_leaves_the_window_unchanged(
        payload in prop::collection::vec(any::<u8>(), 0..1_500),
        (kind, sequence, flags) in (1u8..8, any::<u32>(), 0u16..4),
        index in any::<prop::sample::Index>(),
    ) {
        let (low, high) = ([3; 32], [4; 32]);
        let public = |own| agree(own, [9; 32]).own_key;
        let (mut sender, mut receiver) = (agree(low, public(high)), agree(high, public(low)));
        let header = [&[1, kind][..], &sequence.to_be_bytes(), &[0; 4], &flags.to_be_bytes()].concat();
        let mut sealed = to_opened(&[&header[..], &payload].concat());
        sender.sealer.seal(&mut sealed);
        let mut changed = sealed.clone();
        let bit = index.index(sealed.len() * 8);
        changed[bit / 8] ^= 1 << (bit % 8);
        let before = changed.clone();
        prop_assert_eq!(receiver.opener.open(&mut changed), Err(OpenError::Forged));
        prop_assert_eq!(changed, before);
        prop_assert_eq!(receiver.opener.open(&mut sealed.clone()), Ok(()));
        prop_assert_eq!(receiver.opener.open(&mut sealed), Err(OpenError::Replayed));
    }
}
