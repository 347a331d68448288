//! The generator of room ids, codes and UUIDs, which are derived from a secret key, so that clients cannot guess them.

use sha2::{Digest, Sha256};

/// Letters and digits, except those that look alike.
const INVITE_ALPHABET: &[u8; 31] = b"ABCDEFGHJKMNPQRSTUVWXYZ23456789";

/// Length of an invite code in characters.
pub(super) const INVITE_CODE_LEN: usize = 6;

/// Length in characters of an invite code for newer jamjam clients.
pub(super) const LONG_INVITE_CODE_LEN: usize = 9;

/// Generates ids from SHA-256 of a secret key and a counter. Without the key, clients cannot predict the next id from earlier ids.
pub(super) struct IdGenerator {
    key: [u64; 4],
    counter: u64,
}

impl IdGenerator {
    pub(super) fn new(key: [u64; 4]) -> Self {
        Self { key, counter: 0 }
    }

    /// Generates ids until one is free.
    pub(super) fn unique(&mut self, generate: impl Fn(&mut Self) -> String, is_free: impl Fn(&str) -> bool) -> String {
        loop {
            let id = generate(self);
            if is_free(&id) {
                return id;
            }
        }
    }

    fn next_u64(&mut self) -> u64 {
        self.counter += 1;
        let mut digest = Sha256::new();
        for word in self.key.into_iter().chain([self.counter]) {
            digest.update(word.to_le_bytes());
        }
        let digest: [u8; 32] = digest.finalize().into();
        digest.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }

    /// A room id: eight lower-case hexadecimal digits.
    pub(super) fn room_id(&mut self) -> String {
        format!("{:08x}", self.next_u64() as u32)
    }

    /// An invite code of `len` characters, each a letter or a digit.
    pub(super) fn invite_code(&mut self, len: usize) -> String {
        let mut bits = self.next_u64();
        let mut letter = || {
            let letter = INVITE_ALPHABET[(bits % INVITE_ALPHABET.len() as u64) as usize];
            bits /= INVITE_ALPHABET.len() as u64;
            char::from(letter)
        };
        (0..len).map(|_| letter()).collect()
    }

    /// The generator of the ids of the room with this name and number, which are the same on every server.
    pub(super) fn of_name(name: &str, number: u64) -> Self {
        let digest = Sha256::new().chain_update("jamjam-dev test room").chain_update(number.to_le_bytes());
        let digest: [u8; 32] = digest.chain_update(name).finalize().into();
        let (words, _) = digest.as_chunks::<8>();
        Self::new([0, 1, 2, 3].map(|index| u64::from_le_bytes(words[index])))
    }

    /// A room code with this number of decimal digits, at most 19.
    pub(super) fn room_code(&mut self, digits: usize) -> String {
        // With up to 6 digits, the modulo bias is below 1 in 10^13.
        let code = self.next_u64() % 10_u64.pow(digits as u32);
        format!("{code:0digits$}")
    }

    /// A version 4 UUID (RFC 9562, section 5.4).
    pub(super) fn uuid(&mut self) -> String {
        let bits = u128::from(self.next_u64()) << 64 | u128::from(self.next_u64());
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let hex = format!("{bits:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

/// Whether `name` has the form of an invite code.
pub(super) fn is_invite_code(name: &str) -> bool {
    matches!(name.len(), INVITE_CODE_LEN | LONG_INVITE_CODE_LEN)
        && name.bytes().all(|byte| INVITE_ALPHABET.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_well_formed_and_unique() {
        let mut names = IdGenerator::new([1, 2, 3, 4]);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1_000 {
            let (room, invite, uuid) = (names.room_id(), names.invite_code(INVITE_CODE_LEN), names.uuid());
            assert!(room.len() == 8 && room.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{room}");
            let long_invite = names.invite_code(LONG_INVITE_CODE_LEN);
            assert!(is_invite_code(&invite) && is_invite_code(&long_invite), "{invite} {long_invite}");
            assert_eq!((invite.len(), long_invite.len()), (6, 9));
            let version_and_variant = (uuid.as_bytes()[14], uuid.as_bytes()[19]);
            assert!(uuid.len() == 36 && matches!(version_and_variant, (b'4', b'8' | b'9' | b'a' | b'b')), "{uuid}");
            assert!(seen.insert(uuid));
        }
        // python3 -c 'import hashlib, struct; print(hashlib.sha256(struct.pack("<5Q", 1, 2, 3, 4, 1)).hexdigest()[:16])'
        assert_eq!(format!("{:016x}", IdGenerator::new([1, 2, 3, 4]).next_u64()), "5897e478f7f8ab05");
        for digits in 4..=6 {
            let codes: Vec<String> = (0..100_000).map(|_| names.room_code(digits)).collect();
            assert!(codes.iter().all(|code| code.len() == digits && code.bytes().all(|byte| byte.is_ascii_digit())));
            // Each first digit occurs about one time in ten.
            for first in "0123456789".chars() {
                let share = codes.iter().filter(|code| code.starts_with(first)).count();
                assert!((9_500..10_500).contains(&share), "{digits} digits, {first}: {share}");
            }
        }
        assert_ne!(IdGenerator::new([1, 2, 3, 5]).uuid(), IdGenerator::new([1, 2, 3, 4]).uuid());
        for other in ["ABC23", "ABC2345", "abc234", "ABCI23", "ABC0O1", "ÄBC23"] {
            assert!(!is_invite_code(other), "{other}");
        }
    }
}
