//! STUN read and written by hand, from RFC 8489 and `docs/protocol.md` alone.

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// The content of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it had a FINGERPRINT.
    pub sealed: bool,
    /// Since when; AUDIO, LATENCY_PING, KEEPALIVE. Valid only if `sealed` is set.
    pub received_counts: Option<(u32, [u32; 3])>,
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

/// CRC-32 bit by bit, as in IEEE 802.3, and the RFC's mask.
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

/// Type and value.
type Attribute<'a> = (u32, &'a [u8]);

/// The attributes of a message, but for the last if that is a FINGERPRINT, and whether it is. `None`: it is no message.
fn attributes(message: &[u8]) -> Option<(Vec<Attribute<'_>>, bool)> {
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

/// Whether this is a question of ours, whole.
pub fn is_question(bytes: &[u8]) -> bool {
    let asks = |(found, sealed): (Vec<Attribute<'_>>, bool)| sealed && found == [(0xc0ec, &[0; 44][..])];
    bytes.starts_with(&[0, 1]) && bytes.get(4..8) == Some(&COOKIE) && attributes(bytes).is_some_and(asks)
}

/// The transaction of a message that has one.
pub fn transaction(message: &[u8]) -> [u8; 12] {
    message[8..20].try_into().expect("twelve bytes")
}

/// Whether this claims to be a response in that transaction.
pub fn is_response(bytes: &[u8], transaction: &[u8; 12]) -> bool {
    let kind = bytes.starts_with(&[1, 1]) || bytes.starts_with(&[1, 0x11]);
    kind && bytes.get(4..8) == Some(&COOKIE) && bytes.get(8..20) == Some(transaction)
}

/// Reads a response; `None` if it is damaged.
pub fn read(bytes: &[u8]) -> Option<Answer> {
    let (found, sealed) = attributes(bytes)?;
    // What follows a MESSAGE-INTEGRITY is not looked at; a flipped bit can make one of anything.
    let covered = found.iter().take_while(|(kind, _)| !matches!(kind, 0x0008 | 0x001c));
    let told = |value: &[u8]| {
        let words: Vec<u32> = value.chunks(4).map(word).collect();
        (words[0] == 0x6a61_6d31).then(|| (words[1], [words[2], words[3], words[4]]))
    };
    let received_counts =
        { covered }.filter(|(kind, value)| *kind == 0xc0ec && value.len() == 20).find_map(|(_, value)| told(value));
    Some(Answer { sealed, received_counts: received_counts.filter(|_| sealed) })
}

/// A success response with a XOR-MAPPED-ADDRESS of 192.0.2.1:32853, these further attributes, and a FINGERPRINT.
pub fn response(transaction: &[u8], further: &[u8]) -> Vec<u8> {
    let address = [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
    let length = (address.len() + further.len() + 8) as u8;
    let mut message = [&[1, 1, 0, length][..], &COOKIE, transaction, &address, further].concat();
    seal(&mut message);
    message
}

/// Appends a FINGERPRINT to a message whose length counts it in.
pub fn seal(message: &mut Vec<u8>) {
    let seal = fingerprint(message);
    message.extend([0x80, 0x28, 0, 4]);
    message.extend(seal.to_be_bytes());
}

/// The attribute with which jamjam-dev reports its counts of AUDIO, LATENCY_PING and KEEPALIVE, and their start time.
pub fn received_counts(since: u32, counts: [u32; 3]) -> Vec<u8> {
    let mut value = vec![0xc0, 0xec, 0, 20];
    value.extend(b"jam1");
    value.extend([since, counts[0], counts[1], counts[2]].iter().flat_map(|word| word.to_be_bytes()));
    value
}
