//! STUN parsed and serialized by code that is written only from RFC 8489 and `docs/protocol.md`.

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

/// The CRC-32 of IEEE 802.3, computed bit by bit, with the mask of the RFC.
fn fingerprint(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc % 2 == 1 { (crc / 2) ^ 0xedb8_8320 } else { crc / 2 };
        }
    }
    !crc ^ 0x5354_554e
}

pub type Attribute<'a> = (u32, &'a [u8]);

/// The attributes of a message except a final FINGERPRINT, and whether there is one. `None` for an invalid message.
pub fn attributes(message: &[u8]) -> Option<(Vec<Attribute<'_>>, bool)> {
    let length = usize::from(u16::from_be_bytes([*message.get(2)?, *message.get(3)?]));
    if message.len() < 20 || length != message.len() - 20 || length % 4 != 0 {
        return None;
    }
    let (mut found, mut at) = (Vec::new(), 20);
    while at < message.len() {
        let (kind, len) = (word(&message[at..at + 4]) >> 16, (word(&message[at..at + 4]) & 0xffff) as usize);
        let next = at + 4 + len.div_ceil(4) * 4;
        if next > message.len() {
            return None;
        }
        if kind == 0x8028 {
            let right = next == message.len() && len == 4 && word(&message[at + 4..]) == fingerprint(&message[..at]);
            return right.then_some((found, true));
        }
        found.push((kind, &message[at + 4..at + 4 + len]));
        at = next;
    }
    Some((found, false))
}

/// Whether `bytes` is a complete STUN request for a loss report, at the start or end of a run or during it, with a FINGERPRINT.
pub fn is_loss_report_request(bytes: &[u8]) -> bool {
    let is_request = |(found, has_fingerprint): (Vec<Attribute<'_>>, bool)| {
        let [(0xc0ec, [0 | 1, rest @ ..])] = found[..] else { return false };
        has_fingerprint && (rest == [&[2][..], &[0; 122]].concat() || rest == [0; 43])
    };
    bytes.starts_with(&[0, 1]) && bytes.get(4..8) == Some(&COOKIE) && attributes(bytes).is_some_and(is_request)
}

pub fn transaction(message: &[u8]) -> [u8; 12] {
    message[8..20].try_into().expect("twelve bytes")
}

/// Whether `bytes` begins with the header of a response with this transaction ID.
pub fn is_response(bytes: &[u8], transaction: &[u8; 12]) -> bool {
    let kind = bytes.starts_with(&[1, 1]) || bytes.starts_with(&[1, 0x11]);
    kind && bytes.get(4..8) == Some(&COOKIE) && bytes.get(8..20) == Some(transaction)
}

/// The start time of counting, and the counts of AUDIO, LATENCY_PING and KEEPALIVE in a response with a FINGERPRINT.
pub fn counts_in(response: &[u8]) -> Option<(u32, [u32; 3])> {
    let (found, _) = attributes(response).filter(|(_, has_fingerprint)| *has_fingerprint)?;
    // Attributes after a MESSAGE-INTEGRITY are ignored. A bit flip can turn the type of any attribute into MESSAGE-INTEGRITY.
    let covered = found.iter().take_while(|(kind, _)| !matches!(kind, 0x0008 | 0x001c));
    let mut counts = covered.filter(|(kind, value)| *kind == 0xc0ec && matches!(value.len(), 20 | 100));
    counts.find_map(|(_, value)| {
        let words: Vec<u32> = value.chunks(4).map(word).collect();
        let magic = if value.len() == 20 { 0x6a61_6d31 } else { 0x6a61_6d32 };
        (words[0] == magic).then(|| (words[1], [words[2], words[3], words[4]]))
    })
}

/// A success response with a XOR-MAPPED-ADDRESS of 192.0.2.1:32853, these further attributes, and a FINGERPRINT.
pub fn response(transaction: &[u8], further: &[u8]) -> Vec<u8> {
    let address = [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
    let length = (address.len() + further.len() + 8) as u8;
    let mut message = [&[1, 1, 0, length][..], &COOKIE, transaction, &address, further].concat();
    append_fingerprint(&mut message);
    message
}

/// Appends a FINGERPRINT to a message whose length field already includes the FINGERPRINT.
pub fn append_fingerprint(message: &mut Vec<u8>) {
    let append_fingerprint = fingerprint(message);
    message.extend([0x80, 0x28, 0, 4]);
    message.extend(append_fingerprint.to_be_bytes());
}

/// The attribute with which jamjam-dev reports its counts of AUDIO, LATENCY_PING and KEEPALIVE, and their start time.
pub fn received_counts(since: u32, counts: [u32; 3]) -> Vec<u8> {
    let mut value = vec![0xc0, 0xec, 0, 20];
    value.extend(b"jam1");
    value.extend([since, counts[0], counts[1], counts[2]].iter().flat_map(|word| word.to_be_bytes()));
    value
}
